"""A second reader of GREEN replies, in Python's own patterns: what the published code does, written again.

Reads JSON texts, one a line; prints [significant, insignificant, matched, green] of each.
"""
import json
import re
import sys


def clean(reply):
    if "[Explanation]:" in reply:
        if "<|assistant|>" in reply:
            reply = reply.split("<|assistant|>")[-1]
        pieces = reply.split("[Explanation]:")
        reply = pieces[1] if "[Explanation]:\n    <Explanation>\n" in reply else pieces[-1]
    if "<|assistant|>" in reply:
        reply = reply.split("<|assistant|>")[-1]
    return reply.replace("</s>", "").replace("<unk>", "")


def section(text, name):
    found = re.search(r"\[" + name + r"\]:\s*(.*?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    return "" if found is None or found.group(1).startswith("No") else found.group(1)


def errors(text):
    for labels in ("abcdef", "123456"):
        lines = sorted(re.findall(r"\([" + labels[0] + "-" + labels[-1] + r"]\) .*", text))
        if not lines:
            continue
        counts = [0] * 6
        for line in lines:
            found = re.search(r"(?<=: )\b\d+\b(?=\.)", line)
            if found:
                counts[labels.index(line[1])] = int(found.group())
        return counts
    return [0] * 6


def matched(text):
    found = re.search(r"^\b\d+\b(?=\.)", text)
    return int(found.group()) if found else 0


for line in sys.stdin:
    text = clean(json.loads(line))
    significant = errors(section(text, "Clinically Significant Errors"))
    insignificant = errors(section(text, "Clinically Insignificant Errors"))
    count = matched(section(text, "Matched Findings"))
    total = count + sum(significant)
    print(json.dumps([significant, insignificant, count, 0 if count == 0 else count / total]))
