export { DEMO_SETTINGS, type DemoSettings, QUICK_SETTINGS } from './defaults.js'
export { type DemoContext, type DemoOptions, type DemoResult, runDemo } from './run.js'
export type { DemoProgress } from './stages.js'
