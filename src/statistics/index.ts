/** `fire-train/statistics`: intervals, tests and agreement, each with its formula and source. All levels are 95 %, two-sided. */

export { type Agreement, type AgreementTable, agreementOf, correctedShare, roganGladen } from './agreement.js'
export {
  type Bootstrap,
  type ClusteredItem,
  type ClusteredMean,
  clusterBootstrap,
  clusteredMean,
  clusterSignFlip,
  countClusters,
  fewestClusters,
  type MeanByCluster,
  meanByCluster,
  meanOfItems,
} from './clusters.js'
export { benjaminiHochberg, holm } from './multiple.js'
export {
  countPaired,
  mcnemarExact,
  mcnemarMidP,
  mcnemarPower,
  minimalDetectable,
  type PairedCounts,
  pairedDifference,
} from './paired.js'
export { fisherExact, type Interval, type Proportion, wilson } from './proportion.js'
export { passAtK } from './sampled.js'
export { seedBootstrap, seedTest } from './seeds.js'
export { type MeanTest, meanTest, studentP } from './student.js'
