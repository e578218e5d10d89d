package modelcheck

// A token names one issued pair, access and refresh token alike: the provider
// numbers them as it issues them. 0 is none.
type token uint8

// The bounds of a world.
const (
	maxTokens   = 16
	maxRequests = 4
	maxRescued  = 3
	maxGrants   = 4 // grants are numbered from 1
)

// A tokenSet is a set of tokens.
type tokenSet uint16

func (s tokenSet) has(t token) bool { return s>>t&1 == 1 }
func (s *tokenSet) add(t token)     { *s |= 1 << t }
func (s *tokenSet) remove(t token)  { *s &^= 1 << t }

// A grantSet is a set of grants.
type grantSet uint8

func (s grantSet) has(g uint8) bool { return s>>g&1 == 1 }
func (s *grantSet) add(g uint8)     { *s |= 1 << g }
func (s *grantSet) remove(g uint8)  { *s &^= 1 << g }

// A world is one state of everything. It is comparable, and equal worlds have equal
// futures: whatever order does not matter is brought into one order by settle.
type world struct {
	parents uint64    // four bits a token: its parent, where the first use of the child ends it
	grants  uint32    // two bits a token: its grant
	item    [3]uint32 // the connection under test, and those that the consents create
	session [2]uint32

	workers    [2]worker
	consents   [2]process
	disconnect process
	rescued    [maxRescued]rescued
	network    [maxRequests]request

	// The provider.
	usable, used, inGrace tokenSet
	dead                  grantSet
	issued                token // the last token issued

	attempts uint8 // refreshes begun, which number the attempts
	faults   uint8 // left
	left     actions
	epoch    uint8

	// Ghosts: known to nobody inside, asked by the invariants.
	lost, gone grantSet // a rotation that nobody holds; ended by the user or the provider
	superseded tokenSet // replaced, dropped, or out of everybody's reach
	stored     tokenSet // access tokens that were ever in the item
	sent       uint8    // highest generation whose refresh token was sent
	crashed    bool     // something of ours died or was cut off
	stray      bool     // a disconnect died with a live pair that its proof brought
}

// actions are what may still happen, each once.
type actions uint8

const (
	mayDisconnect actions = 1 << iota
	mayRevoke             // the user, at the provider
	mayActivate
	mayRestore
	mayReseal
	mayTamper
)

// A worker runs one refresh after another.
type worker struct {
	node    uint32 // its machine with the pending effect; 0: idle
	rounds  uint8  // refreshes it may still begin
	attempt uint8
	waits   uint8 // number of the send whose answer it waits for, 0 none
	opened  token // the refresh token that it opened before the claim
	held    token // a token that it holds and nobody has stored
	repeats bool  // its pending write was applied, and the SDK sends it again
	answer  answerKind
	_       [1]uint8
}

// A process is a consent or a disconnect.
type process struct {
	node  uint32
	phase phase
	held  token
	tries uint8 // of a disconnect
	ended bool  // of a disconnect: its tombstone was written
}

type phase uint8

const (
	waiting phase = iota // not begun
	ready                // a consent whose session exists
	running
	over // ended or crashed; what is unfinished is the tick's
)

// A request is a refresh token on its way to the provider.
type request struct {
	worker, attempt, send uint8
	token                 token
}

// A rescued record is a save, or an order to revoke, that waits to be replayed: by
// the worker's node that holds it.
type rescued struct {
	node   uint32
	revoke bool
	token  token
	_      [2]uint8
}

func (w *world) grantOf(t token) uint8  { return uint8(w.grants >> (2 * t) & 3) }
func (w *world) parentOf(t token) token { return token(w.parents >> (4 * t) & 15) }

// live reports whether the provider would take the refresh token t.
func (w *world) live(t token) bool { return w.usable.has(t) && !w.dead.has(w.grantOf(t)) }

// issue makes the next token of a grant.
func (w *world) issue(grant uint8, parent token) token {
	w.issued++
	if w.issued >= maxTokens {
		panic("modelcheck: a world with more tokens than its bounds foresee")
	}
	w.grants |= uint32(grant) << (2 * w.issued)
	w.parents |= uint64(parent) << (4 * w.issued)
	w.usable.add(w.issued)
	return w.issued
}

// send puts a request on the network.
func (w *world) send(r request) {
	for i := range w.network {
		if w.network[i] == (request{}) {
			w.network[i] = r
			return
		}
	}
	panic("modelcheck: more requests under way than the bounds foresee")
}

func (w *world) rescue(r rescued) {
	for i := range w.rescued {
		if w.rescued[i].node == 0 {
			w.rescued[i] = r
			return
		}
	}
	panic("modelcheck: more rescued saves than the bounds foresee")
}

func (w *world) networkEmpty() bool { return w.network == [maxRequests]request{} }
func (w *world) rescueEmpty() bool  { return w.rescued == [maxRescued]rescued{} }

// settle brings what has no order into one: the network, the rescue queue and the
// two workers, which differ in their numbers only. So a world and its mirror image
// are explored once.
func (w *world) settle() {
	a, b := &w.workers[0], &w.workers[1]
	if a.before(b) {
		*a, *b = *b, *a
		for i := range w.network {
			if w.network[i].token != 0 {
				w.network[i].worker ^= 1
			}
		}
	}
	for i := 1; i < len(w.network); i++ {
		for j := i; j > 0 && w.network[j-1].before(w.network[j]); j-- {
			w.network[j-1], w.network[j] = w.network[j], w.network[j-1]
		}
	}
	for i := 1; i < len(w.rescued); i++ {
		for j := i; j > 0 && w.rescued[j-1].node < w.rescued[j].node; j-- {
			w.rescued[j-1], w.rescued[j] = w.rescued[j], w.rescued[j-1]
		}
	}
}

func (a *worker) before(b *worker) bool {
	if a.node != b.node {
		return a.node < b.node
	}
	return a.rounds < b.rounds
}

func (r request) before(o request) bool {
	return r.key() < o.key()
}

func (r request) key() uint32 {
	return uint32(r.attempt)<<16 | uint32(r.send)<<8 | uint32(r.token)
}
