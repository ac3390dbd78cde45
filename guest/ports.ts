/** The ports the guest's programs share. Adapters implement them; tests pass object literals. */

export interface RunOptions {
  /** Written to the command's standard input, which is closed then. Secrets go here, never into argv. */
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end. A program that is not there answers code 127. */
export type Run = (argv: readonly string[], options?: RunOptions) => Promise<RunResult>;

/** Few, whole-file operations. Paths are absolute. */
export interface Files {
  /** undefined when there is no such file. */
  read(path: string): Promise<Uint8Array | undefined>;
  /** Replaces the file atomically; zeros, as a hole, up to `sizeBytes` where that is given. */
  write(path: string, data: string | Uint8Array, mode: number, sizeBytes?: number): Promise<void>;
  /** Creates missing parents; an existing directory is fine. */
  makeDirectory(path: string, mode?: number): Promise<void>;
  exists(path: string): Promise<boolean>;
  /** Names in a directory; empty when there is none. */
  list(path: string): Promise<readonly string[]>;
  remove(path: string): Promise<void>;
  /** Replaces what was there. */
  symlink(target: string, path: string): Promise<void>;
}

/** One log line; `fields` never hold secrets. */
export type Log = (message: string, fields?: Readonly<Record<string, unknown>>) => void;

export type Sleep = (ms: number) => Promise<void>;
