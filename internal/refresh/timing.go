package refresh

// Times of the protocol, in milliseconds unless their name says seconds.
const (
	// SendTime bounds one token request: connect, TLS, headers and body together.
	SendTime = 15_000
	// SendTimeGateway bounds it behind API Gateway, which gives up after 30 s.
	SendTimeGateway = 10_000
	// SaveTime is how long a save is repeated before its rescue begins, RescueTime
	// how long the rescue is.
	SaveTime   = 8_000
	RescueTime = 4_000
	// Slack is left over when the rest is spent, before a send is begun.
	Slack = 2_000
	// leaseSlack makes the lease outlive everything its holder may do.
	leaseSlack = 8_000
	// resendSlack is the lease's time that a second send must leave unused.
	resendSlack = 5_000
	// gracePause is waited before a resend within the grace period.
	gracePause = 1_000

	// Horizon is how long a refusal in doubt is held back, in seconds from the
	// discovery of the doubt: longer than a lease, a request still queued at the
	// provider, and the rescue's longest redelivery together. One process that
	// keeps its own rescue log knows earlier.
	Horizon      = 300
	HorizonLocal = 60

	// Retries: 15 s doubled with each failure up to 15 min; a Retry-After counts up
	// to an hour. In seconds.
	retryFirst   = 15
	retryCap     = 15 * 60
	retryAfterUp = 3600

	// replayLead is how long before its access token's end a connection in doubt at
	// a provider that ends families is tried again, s: little is left to lose.
	replayLead = 600

	// endSlack is how long after its announced end a refresh token counts as ended, s:
	// clocks differ, and providers round.
	endSlack = 3600

	// readSlack is what an access token handed out must have left, s.
	readSlack = 5
)
