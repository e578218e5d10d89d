// Package httpapi is Evergrant's face towards HTTP: the routes that a browser takes
// through a connect, and the API of the application's backend.
//
// It decides how something is asked and answered, never what happens: each route
// reads its request strictly, calls one use case of package broker, and shows what
// came of it. Package wire has the JSON, openapi.json describes all of it, and a test
// holds the three together.
//
// What guards the entrance, on every route:
//
//   - No answer is stored by a cache or named in a Referer, errors included, since
//     codes, states and tokens pass through here.
//   - A parameter that occurs twice is refused rather than chosen from, in the query
//     as in JSON: two readers who choose differently are an attack.
//   - The API knows its callers by an Authorization header (or by the gateway's IAM
//     authorizer) and never reads a cookie, and there is no answer to a preflight. So
//     no page of another origin can use it.
//   - Our own address comes from the configuration or the gateway, never from a
//     header of the request.
//   - Log lines hold the template of a path, never the path or the query.
//
// NewAuthorize, NewCallback and NewAPI are apart so that a function on AWS links only
// what it serves; New is all three. Pages are written by hand for the same reason:
// html/template would be a third of a function's size.
package httpapi
