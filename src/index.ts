/**
 * What embedders import: the engine, training, data and text tools behind the `fire-train` command. Everything is typed,
 * promise-based and abortable; failures are `FireError`s with a stable `code`.
 */

export {
  addLesionNoise,
  type CorruptedImage,
  type CorruptionMethod,
  type CorruptOptions,
  type CorruptReport,
  type CorruptResult,
  corruptImage,
  corruptPairs,
  type NoiseOptions,
  type PixelImage,
  recordSeed,
} from './corrupt/index.js'
export { JsonlAppender, writeFileAtomic, writeFolderAtomic } from './data/files.js'
export { checkReferenced, decodeImage, decodeReferenced, describeImage, imageSource } from './data/images.js'
export { type Line, readJsonl, writeJsonl } from './data/jsonl.js'
export {
  emptySide,
  type LoadedPairs,
  type LoadPairsOptions,
  loadPairs,
  type PairCounts,
  pairProblem,
} from './data/pairs.js'
export {
  type Edit,
  edit,
  type ImageRef,
  imageRef,
  type Pair,
  pair,
  type Response,
  response,
  type Sample,
  sample,
} from './data/records.js'
export {
  BudgetError,
  type ChatRequest,
  type CompletionRequest,
  EmptyReply,
  type Endpoint,
  type EndpointOptions,
  type EndpointSettings,
  endpointSettings,
  imagePart,
  openEndpoint,
  type Reply,
  RequestError,
} from './endpoint/index.js'
export type {
  AdamWSpec,
  AttentionProbe,
  CpuInfo,
  DType,
  EngineSpec,
  Generation,
  ImageFeatures,
  ImageInput,
  LoraSpec,
  ModelInfo,
  NativeEngine,
  NativeModule,
  ObjectiveName,
  ObjectiveSpec,
  PairInput,
  PairStats,
  PlanStats,
  PromptInput,
  SamplingSpec,
  SequenceInput,
  SequenceLogps,
  StepOptions,
  StepStats,
  UpdateStats,
  VerifyRow,
  VerifySpec,
} from './engine/engine.js'
export {
  type CallOptions,
  defaultLora,
  Engine,
  type EngineOptions,
  type GenerateOptions,
  type OpenOptions,
  openEngine,
} from './engine/engine.js'
export { ImageCache, type ImageSource } from './engine/image-cache.js'
export { loadNative } from './engine/load.js'
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
  UnsupportedError,
} from './errors.js'
export {
  compareRounds,
  type Interval,
  type Judge,
  type JudgedAnswer,
  judgeAnswers,
  matchAnswer,
  mcnemarExact,
  type OpenMatch,
  type Probe,
  pairedDifference,
  probeAttention,
  rulesJudge,
  wilson,
} from './evaluate/index.js'
export {
  type AnswerOptions,
  answer,
  defaultGenerateSettings,
  type GenerateSettings,
  type Question,
} from './generate/generate.js'
export {
  type HubAccess,
  hubAccess,
  type Manifest,
  modelFiles,
  type PullOptions,
  type PullReport,
  pull,
  type RemoteFile,
  type RetrySettings,
} from './hub/index.js'
export {
  type ClosedRule,
  closedRules,
  type ImportOptions,
  type ImportReport,
  importData,
  importKinds,
  type Leak,
  type NoteCount,
  type Problem as ImportProblem,
  parseShares,
  type Reason,
  type SplitCounts,
  type SplitPlan,
} from './import/index.js'
export {
  type Inspection,
  type InspectOptions,
  inspectFiles,
  type Problem as InspectionProblem,
} from './inspect/index.js'
export {
  applyEdits,
  type BlindJudge,
  type BuildPairsOptions,
  type BuildPairsResult,
  buildPairs,
  type ConstructContext,
  constructPair,
  diffEdits,
  diffWords,
  type EditProposal,
  EndpointProvider,
  type PairMode,
  type PairOutcome,
  type Provider,
  RulesProvider,
  styleGap,
  verifyPair,
} from './pairs/index.js'
export {
  loadPipeline,
  type Pipeline,
  type PipelineContext,
  type PipelineReport,
  planPipeline,
  runPipeline,
  stages,
} from './pipeline/index.js'
export { type ReportData, renderReport } from './report/index.js'
export {
  type Answerer,
  engineAnswerer,
  type SampleReport,
  type SampleRequest,
  type SampleSettings,
  sampleAnswers,
  sampleSettings,
  serverAnswerer,
} from './sample/index.js'
export { defineStage, type Progress, type Stage, type StageContext, type StageResult } from './stage/index.js'
export { Chat, type ChatModel, type ChatOptions } from './text/chat.js'
export { type ChatFormat, HuatuoFormat, JinjaFormat, type Message } from './text/formats.js'
export { phraseMask } from './text/phrases.js'
export { type Encoding, type Range, Tokenizer } from './text/tokenizer.js'
export { type CollateContext, collate, type Example } from './train/collate.js'
export { formatConfig, loadTrainConfig, resolveTrainConfig } from './train/config.js'
export { type MetricsRow, metricsRow, type StepContext } from './train/metrics.js'
export { type Coefficient, type ObjectiveTraits, objectiveNames, objectives } from './train/objectives.js'
export { planTraining, type TrainPlan } from './train/plan.js'
export { learningRateFactor, type Schedule, warmupSteps } from './train/schedule.js'
export type { TrainConfig, TrainConfigInput } from './train/settings.js'
export { type TrainOptions, type TrainProgress, type TrainReport, train } from './train/train.js'
export { version } from './version.js'
