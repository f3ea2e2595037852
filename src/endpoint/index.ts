/** `fire-train/endpoint`: one client of language-model servers, with cache, budget, rate limit and retries. */

export {
  BudgetError,
  EmptyReply,
  type Endpoint,
  type EndpointOptions,
  openEndpoint,
  RequestError,
  type Usage,
} from './endpoint.js'
export { type ReadReply, readStructured } from './reader.js'
export {
  type ChatRequest,
  type CompletionRequest,
  type EndpointRequest,
  imagePart,
  type Message,
  type Part,
  type Reply,
  type Sampling,
} from './request.js'
export { type EndpointInput, type EndpointSettings, endpointSettings } from './settings.js'
