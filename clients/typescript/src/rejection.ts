import type { TokenAPI } from "./types.js";

/** Whether an answer refuses the token: by 401, or by one of the provider's rules. */
export async function rejected(response: Response, api: TokenAPI | null): Promise<boolean> {
  if (!api) return response.status === 401;
  let body: unknown;
  for (const rule of api.rejected_when) {
    if (rule.status !== response.status || !headersMatch(response.headers, rule.header_match ?? {})) continue;
    if (!rule.json_field) return true;
    body ??= parsed(await response.clone().text());
    const value = field(body, rule.json_field);
    if (value !== undefined && (!rule.equals || value === rule.equals)) return true;
  }
  return false;
}

/** The patterns are RE2's, which JavaScript reads alike but for flags at the beginning. */
function headersMatch(headers: Headers, patterns: Record<string, string>): boolean {
  return Object.entries(patterns).every(([name, pattern]) => {
    const [, flags = "", rest = ""] = /^(?:\(\?([ims]+)\))?(.*)$/s.exec(pattern) ?? [];
    try {
      return new RegExp(rest, flags).test(headers.get(name) ?? "");
    } catch {
      return false;
    }
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The text at a dotted path such as a[0].b; undefined if nothing is there. */
function field(body: unknown, path: string): string | undefined {
  let v = body;
  for (const step of path.replaceAll("[", ".[").split(".")) {
    if (Array.isArray(v)) v = /^\[\d+\]$/.test(step) ? v[Number(step.slice(1, -1))] : undefined;
    else v = typeof v === "object" && v !== null && Object.hasOwn(v, step) ? (v as Record<string, unknown>)[step] : undefined;
    if (v === undefined || v === null) return undefined;
  }
  return typeof v === "string" ? v : JSON.stringify(v);
}
