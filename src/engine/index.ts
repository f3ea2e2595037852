/** `fire-train/engine`: the engine with every type its calls take and give, its image cache, and the devices there are. */

export type { Device, GemmBackend, PackWeights } from './device.js'
export {
  type CallOptions,
  defaultLora,
  Engine,
  type EngineOptions,
  type GenerateOptions,
  type OpenOptions,
  openEngine,
  type PlanOptions,
} from './engine.js'
export type { GroupSpec, Transport, Transports } from './group.js'
export { ImageCache, type ImageSource } from './image-cache.js'
export { loadNative } from './load.js'
export type { CpuInfo, GpuMemory, GpuReport } from './machine.js'
export type {
  AdamWSpec,
  AttentionProbe,
  CancelToken,
  DType,
  EngineSpec,
  Generation,
  ImageFeatures,
  ImageInput,
  ImageView,
  LoraSpec,
  ModelInfo,
  NativeEngine,
  NativeModule,
  PairInput,
  PairStats,
  PlanStats,
  PreparedImage,
  PromptInput,
  SamplingSpec,
  SequenceInput,
  SequenceLogps,
  StepOptions,
  StepStats,
  StopStrings,
  UpdateStats,
} from './native.js'
export {
  averagedTokens,
  type Coefficient,
  type Coefficients,
  type Comparison,
  type LossTerm,
  type ObjectiveName,
  type ObjectiveSpec,
  type ObjectiveTraits,
  objectiveNames,
  objectives,
  type Scope,
  type Sequence,
} from './objectives.js'
