/** The engines of an evaluation: a model is opened once, and its first adapter with it, since it can be left out. */
import { type FeatureStoreSettings, featureStore } from '../data/feature-store.js'
import { type Engine, type EngineSpec, type NativeModule, openEngine } from '../engine/engine.js'

/** A model with an adapter or without one. */
export interface ModelRef {
  model: string
  adapter: string | null
}

/** What the engines compute with. */
export interface ComputeSpec extends Partial<Pick<EngineSpec, 'device' | 'dtype' | 'threads' | 'packWeights'>> {
  store?: FeatureStoreSettings
}

/** One engine is open at a time: two large models do not fit. Declare it with `await using`. */
export class Models implements AsyncDisposable {
  readonly #refs: readonly ModelRef[]
  readonly #spec: ComputeSpec
  readonly #options: { signal?: AbortSignal; native?: NativeModule }
  #open: { ref: ModelRef; engine: Engine } | undefined

  /** @param refs everything that may be asked for. */
  constructor(refs: readonly ModelRef[], spec: ComputeSpec, options: { signal?: AbortSignal; native?: NativeModule }) {
    this.#refs = refs
    this.#spec = spec
    this.#options = options
  }

  get dtype(): EngineSpec['dtype'] | undefined {
    return this.#spec.dtype
  }

  /** An engine of the model that holds the adapter; without one, its adapter is to be left out. The next call may close it. */
  async engine({ model, adapter }: ModelRef): Promise<Engine> {
    const open = this.#open
    if (open && open.ref.model === model && (adapter === null || open.ref.adapter === adapter)) return open.engine
    await this[Symbol.asyncDispose]()
    const first = this.#refs.find((ref) => ref.model === model && ref.adapter !== null)
    const ref = { model, adapter: adapter ?? first?.adapter ?? null }
    const { store = {}, ...compute } = this.#spec
    const spec = { ...ref, ...compute, featureStore: await featureStore(model, store) }
    this.#open = { ref, engine: await openEngine(spec, this.#options) }
    return this.#open.engine
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open?.engine.close()
    this.#open = undefined
  }
}
