// Package wording holds what the pages say that people see on their way through a
// connect: one file of texts, messages.json, in English. A configuration may replace
// any of them, or all in another language.
//
// A text is plain: it holds no markup, and {names} in it stand for what only the moment
// knows. Which names a text may use is checked when it is read, so that a page never
// shows a brace to anybody. A use case names a page by its Page and leaves the words
// alone.
//
// Pages of somebody in the middle of something else say what happened, whether it was
// their fault, and what to do next. They know no jargon; what support needs stands apart.
package wording
