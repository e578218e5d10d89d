// Package simprovider provides five OAuth 2.0 services as HTTP simulators:
// AskFRED, FreeAgent, WhenFresh, Redbooth and FF Logs, each with the quirks that
// its own documents describe. Server.Add simulates any other provider as an entry of
// the catalogue describes it.
//
// One engine keeps clients, grants, codes and tokens (engine.go); one small file
// for each service says where that service departs from the standard. What the
// real service would refuse is refused: a wrong method, client credentials in the
// wrong place, a used or expired code, a redirect_uri that differs from the
// authorization's, a missing or wrong PKCE verifier, a spent refresh token. What
// real servers tolerate, such as a missing state, is tolerated. Where a service's
// documents are silent, its file says what was assumed and why.
//
// A Server is an http.Handler. Everything of a service stands under
// /sim/{provider}/, with the path that the real service uses:
//
//	askfred    /oauth/authorize  /oauth/token  /oauth/revoke  /api/v1/me
//	freeagent  /v2/approve_app  /v2/token_endpoint  /v2/users/me  /v2/company
//	whenfresh  /.well-known/openid-configuration  /oauth2/token  /account  /v1/status
//	redbooth   /oauth2/authorize  /oauth2/token  /api/3/me  /api/3/projects
//	fflogs     /oauth/authorize  /oauth/token  /api/v2/client  /api/v2/user
//
// The authorization endpoints show a plain HTML form with the fields user (alice
// or bob) and decision (allow or deny). A client without a browser posts
// decision=allow, and user if it is not alice, to the same URL.
//
// # Faults
//
// POST /sim/{provider}/faults takes one fault as JSON, GET lists those that are
// left together with the requests counted so far, DELETE removes them all. The
// fields are those of Fault. A fault strikes the next Count requests at its place
// (on): token, revoke, authorize, api or identity. A service's identity endpoint
// belongs to its API, so a fault on api strikes there too. The kinds:
//
//	lost_answer       act, then cut the connection without an answer
//	reset_before      cut the connection before acting
//	hang              do not act, and never answer
//	hang_after        act, then never answer
//	delay             act, and answer after delay_s seconds
//	status            do not act; answer with status (503 unless told)
//	status_after      act, then answer with status (502 unless told)
//	malformed         act, then answer with the first half of the body
//	no_refresh_token  act, but leave the refresh token out of the answer
//	revoke_user       end all grants of user, at once; nothing is kept
//
// With delay_s any kind waits so long before it answers or cuts. With grant, a
// fault on token strikes that grant_type only. A status of 429 is answered in the
// service's own form; body replaces the body of status and status_after, so that
// status 200 with a body of one's own makes a lying service.
//
// # Trust
//
// A simulator protects nothing: whoever reaches it may read and end everything in
// it. It belongs on a loopback address.
package simprovider
