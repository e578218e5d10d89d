package simulate

// mix is splitmix64's finalizer: a bijection that scatters. It stands for chance, at no cost
// and without a lock.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// chance is a number in [0, 1) that belongs to a and b.
func chance(a, b uint64) float64 { return float64(mix(a^mix(b))>>11) / (1 << 53) }

// between is a whole number from low to high that belongs to a and b.
func between(low, high int64, a, b uint64) int64 {
	return low + int64(chance(a, b)*float64(high-low+1))
}

// Trouble is how often the provider fails, in a million requests. A lost answer costs
// its worker the whole time-out.
type Trouble struct {
	TurnedAway int // answered 429, nothing done
	Lost       int // acted upon, and the answer lost
}

// fate is what becomes of one request.
type fate int

const (
	answered fate = iota
	turnedAway
	lost
)

func (t Trouble) fate(a, b uint64) fate {
	switch n := int(chance(a, b) * 1e6); {
	case n < t.Lost:
		return lost
	case n < t.Lost+t.TurnedAway:
		return turnedAway
	}
	return answered
}

// latency is how long a provider takes to answer, ms.
func latency(a, b uint64) int64 { return between(50, 200, a, b+1) }
