/** Owners of files whose process this one is not. */
import { thisOwner } from '../../src/data/owner.js'

/** Of a process that has ended: its number is this process's by now. */
export const goneOwner = (): string => thisOwner().replace(/\d+$/, '1')

/** Of a process that cannot be seen from here. */
export const farOwner = (): string => thisOwner().replace(/^[0-9a-f]+/, '0a0a0a0a')

/** Of a process that ran before this machine was started again. */
export const earlierBoot = (): string => thisOwner().replace(/\.[0-9a-f]+\./, '.0b0b0b0b.')
