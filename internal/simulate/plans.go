package simulate

import "fmt"

// kinds are the lives of the mixed fleets.
func kinds(hour, two, week int) []Kind {
	return []Kind{
		{"1 h", hour / 2, 3600, true},
		{"1 h fixed", hour - hour/2, 3600, false},
		{"2 h", two / 2, 7200, true},
		{"2 h fixed", two - two/2, 7200, false},
		{"7 d", week / 2, 7 * 86400, true},
		{"7 d fixed", week - week/2, 7 * 86400, false},
	}
}

// trouble is that of every simulation: enough that each hour sees each kind of failure.
var trouble = Trouble{TurnedAway: 1000, Lost: 200}

// MixedDay is a day of mixed lives as functions work on it: an event up to a minute
// late, and four processes at once.
func MixedDay(connections, hours int) Day {
	return Day{
		Name: "A day of mixed lives", Connections: connections, Hours: hours, Kinds: kinds(600, 300, 100), Trouble: trouble,
		Processes: 4, TickDelay: 59, Outage: int64(hours) * 20,
	}
}

// HourlyDay is a fleet whose tokens live an hour each, kept by so many processes.
func HourlyDay(connections, hours, processes int) Day {
	return Day{
		Name: fmt.Sprintf("One-hour lives, processes: %d", processes), Connections: connections, Hours: hours, Kinds: kinds(1000, 0, 0)[:2],
		Trouble: trouble, Processes: processes, TickDelay: 1, Outage: int64(hours) * 20,
	}
}
