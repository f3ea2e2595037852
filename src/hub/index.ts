/** `fire-train/hub`: model folders from the Hugging Face hub, resumable and checked by hash. */

export type { RetrySettings } from '../http/retry.js'
export { type HubAccess, hubAccess } from './access.js'
export { modelFiles, type RemoteFile } from './files.js'
export { type PullOptions, type PullReport, pull } from './pull.js'
export { type LocalFile, type UploadOptions, type UploadReport, upload } from './upload.js'
