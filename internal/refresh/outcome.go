package refresh

var outcomeNames = [...]string{
	Fresh: "fresh", NotRefreshed: "not_refreshed", NotYet: "not_yet", Busy: "busy", ClientChanged: "client_changed",
	Suspended: "suspended", NotReady: "not_ready", StoreFailed: "store_failed", Parked: "waiting", Saved: "saved",
	Overtaken: "overtaken", Rescued: "rescued", Dropped: "dropped", LostTokens: "lost_tokens", NotActed: "not_acted",
	Doubted: "answer_lost", Refused: "config_error", Verdict: "needs_reauth", HeldBack: "refusal_held",
	ImportRefused: "token_refused", Absent: "absent", TooLarge: "too_large",
}

// String is the outcome's name in logs and metrics.
func (o Outcome) String() string { return outcomeNames[o] }

var consentNames = [...]string{
	Connected: "connected", NotAwaiting: "not_awaiting", ConsentUnknown: "store_failed", ExchangeRefused: "exchange_refused",
	ExchangeLost: "answer_lost", AnswerUnsaved: "lost_tokens", Unfinished: "unfinished", IdentityPending: "identity_pending",
	MismatchKept: "account_mismatch", NoRefreshToken: "no_refresh_token", ConsentOvertaken: "overtaken", ConsentGone: "disconnected",
}

// String is the outcome's name in logs and metrics.
func (o ConsentOutcome) String() string { return consentNames[o] }
