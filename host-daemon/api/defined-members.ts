/** `T` with members that may be undefined made optional, as generated message types want them. */
export type DefinedMembers<T> =
  & { [K in keyof T as undefined extends T[K] ? never : K]: T[K] }
  & { [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> };

export function definedMembers<T extends object>(value: T): DefinedMembers<T> {
  return Object.fromEntries(
    Object.entries(value).filter(([, member]) => member !== undefined),
  ) as DefinedMembers<T>;
}
