import type { Token } from "./types.js";

/** How many tokens are cached at most. */
export const maxCells = 10_000;

/** How long a refusal that a refresh did not heal is not reported again, in ms. */
const quiet = 60_000;

/** One request for a token, which any number of callers wait for. */
interface Flight {
  token: Promise<Token>;
  controller: AbortController;
  waiting: number;
}

/** One cached token. */
export class Cell {
  token: Token | undefined;
  /** The provider refused the token: it is to be reported and not handed out. */
  refused = false;
  flight: Flight | undefined;
  /** A token that had just been refreshed was refused as well, so that the provider's API has
   * another reason. Until then no refusal is reported: each would be a refresh in vain. */
  #quietUntil = 0;

  /** The token, if it may still be handed out at now (ms). */
  fresh(now: number, minTTL: number): Token | undefined {
    const t = this.token;
    if (!t || this.refused) return undefined;
    const lasts = t.expires_at === null || minTTL === 0 || now + minTTL * 1000 <= Date.parse(t.expires_at);
    return lasts && (t.use_until === null || now < Date.parse(t.use_until)) ? t : undefined;
  }

  /** Marks t as refused. Whether another token may help. */
  refuse(t: Token, now: number): boolean {
    if (this.token?.token_id === t.token_id) {
      if (now < this.#quietUntil) return false;
      this.refused = true;
    }
    return true;
  }

  hush(now: number): void {
    this.#quietUntil = now + quiet;
  }

  /** Waits for the one request under way, or for the one that ask begins, which is given the
   * refused token where there is one. The request ends when nobody waits any more. */
  async join(ask: (refused: Token | undefined, signal: AbortSignal) => Promise<Token>, signal?: AbortSignal): Promise<Token> {
    signal?.throwIfAborted();
    const flight = (this.flight ??= this.#launch(ask));
    flight.waiting++;
    if (!signal) return flight.token;
    let stop = (): void => {};
    const stopped = new Promise<never>((_, reject) => {
      stop = () => reject(signal.reason);
      signal.addEventListener("abort", stop, { once: true });
    });
    try {
      return await Promise.race([flight.token, stopped]);
    } finally {
      signal.removeEventListener("abort", stop);
      if (--flight.waiting === 0 && this.flight === flight) {
        this.flight = undefined;
        flight.controller.abort();
      }
    }
  }

  #launch(ask: (refused: Token | undefined, signal: AbortSignal) => Promise<Token>): Flight {
    const controller = new AbortController();
    const refused = this.refused ? this.token : undefined;
    const flight: Flight = { controller, waiting: 0, token: ask(refused, controller.signal) };
    const landed = (): void => {
      if (this.flight === flight) this.flight = undefined;
    };
    flight.token = flight.token.then(
      (token) => {
        landed();
        // What was refused while a read was under way stays refused, if it is what came.
        this.refused = !refused && this.refused && this.token?.token_id === token.token_id;
        this.token = token;
        return token;
      },
      (error: unknown) => {
        landed();
        throw error;
      },
    );
    flight.token.catch(() => {}); // whoever waits sees it; perhaps nobody does any more
    return flight;
  }
}
