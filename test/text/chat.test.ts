import { execFileSync } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { DataError, ModelError, UnsupportedError } from '../../src/errors.js'
import { Chat } from '../../src/text/chat.js'
import { HuatuoFormat } from '../../src/text/formats.js'
import type { Tokenizer } from '../../src/text/tokenizer.js'
import { chatTemplate, temporaryFolder, tinyTokenizer } from '../fakes/world.js'
import { qwen2, qwen3 } from './qwen.js'

/** In the manner of transformers' LLaVA templates: images of a message first, by selectattr. */
const llavaTemplate =
  "{% for message in messages %}{{ message['role'].upper() }}: {% for item in message['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}{% for item in message['content'] | selectattr('type', 'equalto', 'text') %}{{ item['text'] }}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"

let folder: string

beforeEach(async () => {
  folder = await temporaryFolder()
})

/** A model folder with these files on top of a tokenizer and a config.json. */
async function writeFolder(
  tokenizer: { definition: object; config: object },
  files: Record<string, object | string>,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  const { definition, config } = tokenizer
  const all = { 'tokenizer.json': definition, 'tokenizer_config.json': config, 'config.json': {}, ...files }
  for (const [name, content] of Object.entries(all)) {
    await writeFile(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
}

describe('the Qwen3-VL format', () => {
  const qwen = { imageTokenId: 151655, eosTokenIds: [] }
  let chat: Chat

  beforeAll(async () => {
    folder = await temporaryFolder()
    await writeFolder(qwen3(), { 'chat_template.jinja': chatTemplate })
    chat = await Chat.load(folder, qwen)
  })

  it('renders one image and the question', () => {
    const question = chat.tokenizer.encode('Where?')
    expect([...chat.promptIds('Where?', [3])]).toEqual([
      ...[151644, 872, 198, 151652, 151655, 151655, 151655, 151653],
      ...question,
      ...[151645, 198, 151644, 77091, 198],
    ])
  })

  it('gives each image its own run of placeholders', () => {
    const ids = [...chat.promptIds('x', [2, 1])]
    expect(ids.slice(3, 10)).toEqual([151652, 151655, 151655, 151653, 151652, 151655, 151653])
  })

  it('ends answers with <|im_end|>', () => {
    expect(chat.endTokenId).toBe(151645)
  })

  it('refuses a question that holds the image token, by name', () => {
    const ask = () => chat.promptIds('What is <|image_pad|>?', [2])
    expect(ask).toThrow(DataError)
    expect(ask).toThrow(/image token <\|image_pad\|>: "What is/)
  })
})

describe('the HuatuoGPT-Vision format', () => {
  const user = [27, 91, 872, 91, 397]
  const assistant = [27, 91, 77091, 91, 397]
  const placeholder = -200
  let chat: Chat
  let tokenizer: Tokenizer

  beforeAll(async () => {
    folder = await temporaryFolder()
    await writeFolder(qwen2(), { 'config.json': { model_type: 'llava_qwen2' } })
    chat = await Chat.load(folder, { imageTokenId: placeholder, eosTokenIds: [] })
    tokenizer = chat.tokenizer
  })

  const question = 'Is the heart large?'

  it('is chosen by model_type and ends answers with <|endoftext|>', () => {
    expect(chat.endTokenId).toBe(151643)
  })

  it('puts images before the question and tokenises the parts between them alone', () => {
    expect([...chat.promptIds(question, [2])]).toEqual([
      ...[...user, placeholder, placeholder],
      ...tokenizer.encode(`\n${question}\n<|assistant|>\n`),
    ])
    expect([...chat.promptIds(question, [1, 2])]).toEqual([
      ...[...user, placeholder, 198, placeholder, placeholder],
      ...tokenizer.encode(`\n${question}\n<|assistant|>\n`),
    ])
  })

  it('asks without an image', () => {
    const ids = [...chat.promptIds(question)]
    expect(ids.slice(0, 5)).toEqual(user)
    expect(ids.slice(-5)).toEqual(assistant)
    expect(tokenizer.decode(ids)).toBe(`<|user|>\n${question}\n<|assistant|>\n`)
  })

  it('tokenises apart where tokens of the whole would join', () => {
    // "\n" after an image begins a chunk; in one piece "<image>\n\n" would be other tokens.
    const [, , , , , first, second] = chat.promptIds('\nx', [1])
    expect([first, second]).toEqual([placeholder, tokenizer.encode('\n\nx')[0]])
  })

  const asked = (text: string, images: number[] = []): string =>
    tokenizer.decode([...chat.promptIds(text, images)].map((id) => (id === placeholder ? 151644 : id)))

  it('strips the turn and removes the marks', () => {
    expect(asked('  <image>Is<s> it</s>? \u3000\n')).toBe('<|user|>\nIs it?\n<|assistant|>\n')
    expect(asked('', [1])).toBe('<|user|>\n<|im_start|>\n<|assistant|>\n')
    // A byte order mark is space to JavaScript, not to Python.
    expect(asked('\ufeffx')).toBe('<|user|>\n\ufeffx\n<|assistant|>\n')
    expect(asked('\x1cx\x85')).toBe('<|user|>\nx\n<|assistant|>\n')
  })

  it('keeps the space that follows an image, as the authors do', () => {
    expect(asked('  x ', [1])).toBe('<|user|>\n<|im_start|>\n  x\n<|assistant|>\n')
  })

  it('refuses a question that becomes an image token by the removal', () => {
    expect(() => chat.promptIds('<im<s>age>', [])).toThrow(/image token <image>/)
  })

  it('writes past turns and refuses roles it has no form for', () => {
    const format = new HuatuoFormat(tokenizer, placeholder)
    const turns = (...roles: string[]) => format.encode(roles.map((role) => ({ role, content: 'x' })))
    expect(tokenizer.decode(turns('user', 'assistant', 'user'))).toBe(
      '<|user|>\nx\n<|assistant|>\nx \n<|user|>\nx\n<|assistant|>\n',
    )
    expect(() => turns('system', 'user')).toThrow(UnsupportedError)
    expect(() => turns('user', 'assistant')).toThrow(/user, assistant/)
  })
})

describe('Chat.load', () => {
  const model = { imageTokenId: 400, eosTokenIds: [] }
  /** A tokenizer whose config carries no template and whose <|image_pad|> is spelled <image>. */
  const llava = () => {
    const tokenizer = tinyTokenizer([], { '<|image_pad|>': 400 })
    const { added_tokens: added } = tokenizer.definition as { added_tokens: { id: number; content: string }[] }
    for (const token of added) if (token.id === 400) token.content = '<image>'
    return { ...tokenizer, config: { eos_token: '<|im_end|>' } }
  }

  it.each([
    ['chat_template.jinja', llavaTemplate],
    ['chat_template.json', { chat_template: llavaTemplate }],
    ['processor_config.json', { chat_template: llavaTemplate }],
    [
      'tokenizer_config.json',
      { eos_token: '<|im_end|>', chat_template: [{ name: 'default', template: llavaTemplate }] },
    ],
  ])('reads the template of a LLaVA folder from %s', async (name, content) => {
    await writeFolder(llava(), { 'config.json': { model_type: 'llava' }, [name]: content })
    const chat = await Chat.load(folder, model)
    expect(chat.tokenizer.decode(chat.promptIds('Why?', [2, 1]))).toBe('USER: <image><image>\n<image>\nWhy? ASSISTANT:')
  })

  it('says when the template shows no image', async () => {
    await writeFolder(llava(), { 'chat_template.jinja': '{{ messages[0].role }}' })
    const chat = await Chat.load(folder, model)
    expect(() => chat.promptIds('x', [1])).toThrow(/0 image placeholders for 1 images/)
  })

  it('takes the end of answers from the model when the tokenizer names none', async () => {
    await writeFolder({ ...llava(), config: {} }, { 'chat_template.jinja': 'x' })
    expect((await Chat.load(folder, { imageTokenId: 400, eosTokenIds: [7, 8] })).endTokenId).toBe(7)
    await expect(Chat.load(folder, model)).rejects.toThrow(/names no end-of-sequence token/)
  })

  it('names what a model folder lacks', async () => {
    await expect(Chat.load(join(folder, 'none'), model)).rejects.toThrow(/tokenizer(_config)?\.json/)
    await writeFolder(llava(), {})
    await expect(Chat.load(folder, model)).rejects.toThrow(ModelError)
    await expect(Chat.load(folder, model)).rejects.toThrow(/has no chat template/)
  })

  it.each([
    ['raises', "{{ raise_exception('a system turn is needed') }}", /question: a system turn is needed/],
    ['is no Jinja', '{% if %}', /cannot be read/],
    ['calls what is not there', '{{ messages[0].nothing() }}', /cannot be used for a question/],
    ['loops over a number', '{% for i in range(1000000000) %}x{% endfor %}', /range\(1000000000\)/],
    ['writes without end', `{% for i in range(2000) %}${'x'.repeat(300)}{% endfor %}`, /writes 600000 characters/],
    [
      'never ends',
      '{% for i in range(90000) %}{% for j in range(90000) %}{% for k in range(90000) %}{% endfor %}{% endfor %}{% endfor %}',
      /longer than 2 s/,
    ],
    [
      'doubles a text',
      '{% set n = namespace(x="aa") %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}',
      /string length/,
    ],
  ])('names a template that %s', async (_, template, message) => {
    await writeFolder(llava(), { 'chat_template.jinja': template })
    const attempt = async () => (await Chat.load(folder, model)).promptIds('x')
    const error = await attempt().catch((reason) => reason)
    expect(error).toBeInstanceOf(ModelError)
    expect(error.message).toMatch(message)
    expect(error.message).toContain(join(folder, 'chat_template.jinja'))
  })

  it('counts with range, forwards, backwards and in steps', async () => {
    const loops = ['3', '1, 4', '5, 0, -2', '0', '2, 2'].map(
      (range) => `{% for i in range(${range}) %}{{ i }}{% endfor %}`,
    )
    await writeFolder(llava(), { 'chat_template.jinja': loops.join('|') })
    const chat = await Chat.load(folder, model)
    expect(chat.tokenizer.decode(chat.promptIds('x'))).toBe('012|123|531||')
  })

  it('stops a pattern that tries every split of a text, and names its file', async () => {
    const { definition, config } = llava()
    const pretokenizers = (definition as { pre_tokenizer: { pretokenizers: object[] } }).pre_tokenizer.pretokenizers
    const split = { type: 'Split', pattern: { Regex: '(\\w+\\s?)+\\d$|.' }, behavior: 'Isolated', invert: false }
    const slow = { ...definition, pre_tokenizer: { type: 'Sequence', pretokenizers: [split, pretokenizers.at(-1)] } }
    await writeFolder({ definition: slow, config }, { 'chat_template.jinja': '{{ messages[0].content[0].text }}' })
    const chat = await Chat.load(folder, model)
    const attempt = async () => chat.promptIds('is there an effusion in the left lower lobe of the lung or not')
    const error = await attempt().catch((reason) => reason)
    expect(error).toBeInstanceOf(ModelError)
    expect(error.message).toMatch(/tokenizer\.json cannot cut the text "is there an effusion.*longer than 10 s/)
  }, 60_000)

  it.each(['tokenizer.json', 'tokenizer_config.json', 'config.json', 'chat_template.jinja'])(
    'refuses what is no file under the name of %s',
    async (name) => {
      await writeFolder(llava(), { 'chat_template.jinja': 'x' })
      await rm(join(folder, name))
      execFileSync('mkfifo', [join(folder, name)])
      await expect(Chat.load(folder, model)).rejects.toThrow(`${join(folder, name)} failed: it is a named pipe`)
      await rm(join(folder, name))
      await writeFile(join(folder, name), 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n')
      await expect(Chat.load(folder, model)).rejects.toThrow(`${join(folder, name)} is a Git LFS pointer`)
    },
  )
})
