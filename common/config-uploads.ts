import { z } from 'zod';
import { BLOCK_BYTES_MAX, UPLOAD_POLICIES_MAX } from './limits.ts';

/**
 * Section `uploads` of the configuration: what a token may store, and how much of it. A policy says it once, tokens name
 * their policy (`secrets/tokens.json`).
 */

/** Kinds of pictures as policies name them. */
export const UPLOAD_TYPES = [
  'jpeg',
  'png',
  'gif',
  'webp',
  'avif',
  'heic',
  'jxl',
  'tiff',
  'bmp',
  'svg',
  'ico',
] as const;
export type UploadType = (typeof UPLOAD_TYPES)[number];

/** `upload` stores, `delete` also undeletes, `hide` also reveals. */
export const UPLOAD_ACTIONS = ['upload', 'delete', 'hide'] as const;
export type UploadAction = (typeof UPLOAD_ACTIONS)[number];

export const QUOTA_PERIODS = ['day', 'month'] as const;
export type QuotaPeriod = (typeof QUOTA_PERIODS)[number];

/** The policy of `secrets/token`, and of whoever names it: all that the gateway takes, without further bounds. */
export const UNLIMITED_POLICY = 'unlimited';

const PER_SECOND_MAX = 1_000_000;
const BURST_SECONDS_DEFAULT = 2;

const zPolicy = z
  .strictObject({
    /** Kinds that may be stored; all that the gateway takes when absent. */
    types: z.array(z.enum(UPLOAD_TYPES)).min(1).optional(),
    /** Of one picture; `gateway.maxPictureBytes` holds besides. */
    maxBytes: z.number().int().min(1).max(BLOCK_BYTES_MAX).optional(),
    /** Where a picture was taken is taken out of it before it is stored. */
    stripLocation: z.boolean().default(false),
    /** Turned as its EXIF says before it is stored, so that nobody has to know about EXIF. */
    orient: z.boolean().default(false),
    /** Bytes of pictures stored in a `quotaPeriod`, by all who have that token. */
    quotaBytes: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER).optional(),
    /** Days and months of UTC. */
    quotaPeriod: z.enum(QUOTA_PERIODS).optional(),
    /** Pictures stored a second, in the long run. */
    requestsPerSecond: z.number().positive().max(PER_SECOND_MAX).optional(),
    /** And at once: so many in `burst / requestsPerSecond` seconds, rounded up; two seconds' worth when absent. */
    burst: z.number().int().min(1).max(PER_SECOND_MAX).optional(),
    actions: z
      .array(z.enum(UPLOAD_ACTIONS))
      .min(1)
      .default([...UPLOAD_ACTIONS]),
  })
  .superRefine((policy, ctx) => {
    const needs = (key: 'quotaPeriod' | 'burst', other: 'quotaBytes' | 'requestsPerSecond') => {
      if (policy[key] !== undefined && policy[other] === undefined)
        ctx.addIssue({ code: 'custom', path: [key], message: `needs "${other}" beside it`, input: policy });
    };
    needs('quotaPeriod', 'quotaBytes');
    needs('burst', 'requestsPerSecond');
    const { burst, requestsPerSecond } = policy;
    if (burst !== undefined && requestsPerSecond !== undefined && burst < requestsPerSecond)
      ctx.addIssue({
        code: 'custom',
        path: ['burst'],
        message: `is less than "requestsPerSecond" ${requestsPerSecond}`,
        input: policy,
      });
  });

const POLICY_NAME = /^[A-Za-z0-9_-]{1,64}$/;

const zPolicies = z.record(z.string(), zPolicy).superRefine((policies, ctx) => {
  const complain = (path: string[], message: string) =>
    ctx.addIssue({ code: 'custom', path, message, input: policies });
  const names = Object.keys(policies);
  if (names.length > UPLOAD_POLICIES_MAX) complain([], `at most ${UPLOAD_POLICIES_MAX} policies`);
  for (const name of names) {
    if (!POLICY_NAME.test(name))
      complain([name], 'the name of a policy is 1 to 64 letters, digits, "-" and "_"');
    if (name === UNLIMITED_POLICY) complain([name], 'is built in and cannot be changed');
  }
});

/** Section `uploads` of `config.json`. */
export const zUploads = z.strictObject({ policies: zPolicies.default({}) });

/** A policy with its defaults filled in; what is undefined is not bounded. */
export interface UploadPolicy {
  readonly name: string;
  readonly types: ReadonlySet<UploadType> | undefined;
  /** Of one picture. */
  readonly maxBytes: number | undefined;
  readonly stripLocation: boolean;
  readonly orient: boolean;
  readonly quota: { readonly bytes: number; readonly period: QuotaPeriod } | undefined;
  /** `burst` at once, then `perSecond`. */
  readonly rate: { readonly perSecond: number; readonly burst: number } | undefined;
  readonly actions: ReadonlySet<UploadAction>;
}

export const UNLIMITED: UploadPolicy = {
  name: UNLIMITED_POLICY,
  types: undefined,
  maxBytes: undefined,
  stripLocation: false,
  orient: false,
  quota: undefined,
  rate: undefined,
  actions: new Set(UPLOAD_ACTIONS),
};

/** @returns all policies there are, by name, the built-in one among them */
export function policiesOf(uploads: z.output<typeof zUploads>): ReadonlyMap<string, UploadPolicy> {
  const policies = new Map([[UNLIMITED_POLICY, UNLIMITED]]);
  for (const [name, given] of Object.entries(uploads.policies)) {
    const { types, maxBytes, stripLocation, orient, quotaBytes, quotaPeriod = 'day', actions } = given;
    const perSecond = given.requestsPerSecond;
    policies.set(name, {
      name,
      types: types === undefined ? undefined : new Set(types),
      maxBytes,
      stripLocation,
      orient,
      quota: quotaBytes === undefined ? undefined : { bytes: quotaBytes, period: quotaPeriod },
      rate:
        perSecond === undefined
          ? undefined
          : { perSecond, burst: given.burst ?? Math.max(1, Math.ceil(perSecond * BURST_SECONDS_DEFAULT)) },
      actions: new Set(actions),
    });
  }
  return policies;
}
