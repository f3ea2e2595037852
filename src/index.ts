/**
 * What most programs need first: open an engine, talk to it, train it, run a pipeline, handle errors. Each subject has a
 * subpath with the rest of it, for instance `fire-train/pairs`; docs/library.md lists them.
 */

export { decodeImage } from './data/images.js'
export { type LoadedPairs, type LoadPairsOptions, loadPairs } from './data/pairs.js'
export type { Pair, Response, Sample } from './data/records.js'
export {
  type AdamWSpec,
  type AttentionProbe,
  type CallOptions,
  type Device,
  type DType,
  defaultLora,
  Engine,
  type EngineOptions,
  type EngineSpec,
  type GenerateOptions,
  type Generation,
  type ImageFeatures,
  type ImageInput,
  type LoraSpec,
  type ModelInfo,
  type ObjectiveSpec,
  type OpenOptions,
  openEngine,
  type PairInput,
  type PreparedImage,
  type PromptInput,
  type SamplingSpec,
  type SequenceInput,
  type StepOptions,
  type StepStats,
  type UpdateStats,
} from './engine/index.js'
export {
  AbortedError,
  ArgumentError,
  BenchError,
  CheckpointError,
  ChecksumError,
  ClosedError,
  ConfigError,
  CudaError,
  DataError,
  DiskFullError,
  EndpointError,
  type ErrorCode,
  type ErrorDetail,
  errorCodes,
  FileError,
  FireError,
  type FireErrorOptions,
  HubError,
  InternalError,
  ModelError,
  NativeBindingError,
  NoDeviceError,
  NumericError,
  OutOfMemoryError,
  SegmenterError,
  TrainingError,
  UnsupportedError,
} from './errors.js'
export {
  type AnswerOptions,
  answer,
  defaultGenerateSettings,
  type GenerateSettings,
  type Question,
} from './generate/generate.js'
export {
  loadPipeline,
  type Pipeline,
  type PipelineContext,
  type PipelineReport,
  planPipeline,
  runPipeline,
} from './pipeline/index.js'
export { Chat, type ChatModel, Tokenizer } from './text/index.js'
export {
  loadTrainConfig,
  planTraining,
  resolveTrainConfig,
  type TrainConfig,
  type TrainConfigInput,
  type TrainOptions,
  type TrainPlan,
  type TrainProgress,
  type TrainReport,
  train,
} from './train/index.js'
export { version } from './version.js'
