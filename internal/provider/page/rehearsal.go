package page

import "github.com/evergrant/evergrant/internal/provider"

// Rehearsal says in two sentences what there is to see of a provider's simulator: how a
// refresh goes, and whether tokens can be revoked. What is not known happens in the worst
// way there.
func Rehearsal(e provider.Entry) string {
	text := refreshing(e) + "."
	if e.RevocationEndpoint == "" && e.RevocationRequest.URL == "" {
		return text + " Nothing can be revoked."
	}
	return text + " Tokens can be revoked."
}

func refreshing(e provider.Entry) string {
	if e.Refresh.Supported == provider.No {
		return "There are no refresh tokens, so a connection ends with its access token"
	}
	switch e.Profile(provider.GrantRefreshToken).Rotation {
	case provider.RotationNone:
		return "A refresh leaves the refresh token as it is"
	case provider.RotationAlways:
		return "Each refresh brings a new refresh token" + previous(e)
	case provider.RotationSometimes:
		return "Every other refresh brings a new refresh token" + previous(e)
	default:
		return "Whether a refresh brings a new refresh token is not known, so here it does" + previous(e)
	}
}

// previous is what becomes of the refresh token before.
func previous(e provider.Entry) string {
	kind := e.Refresh.PreviousToken
	if evidence(e, "refresh.previous_token") == "recalled" || kind == "grace_s" && e.Refresh.GraceS == 0 {
		kind = ""
	}
	switch kind {
	case "dies_at_once":
		return "; the old one ends at once"
	case "dies_on_first_use_of_new":
		return "; the old one ends when the new access token is first used"
	case "grace_s":
		return "; the old one works for another " + Span(e.Refresh.GraceS)
	case "stays":
		return "; the old one works on"
	default:
		return "; what becomes of the old one is not known, so here it ends at once"
	}
}
