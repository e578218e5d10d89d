const redacted = "[redacted]";

/**
 * A text that cannot print: as a string, in JSON and in console.log it is "[redacted]".
 * reveal() returns what it holds.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The secret itself, to be sent and to be kept nowhere. */
  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return redacted;
  }

  toJSON(): string {
    return redacted;
  }

  /** What Node.js shows in console.log. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return redacted;
  }
}

/** The text of a secret, or of a string that was given as one. */
export function revealed(s: Secret | string): string {
  return typeof s === "string" ? s : s.reveal();
}
