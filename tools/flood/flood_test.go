package main

import (
	"strings"
	"testing"
	"time"
)

func TestAFloodIsJudged(t *testing.T) {
	served := span{took: []time.Duration{time.Millisecond, 2 * time.Millisecond}}
	flooded := func(count map[int]int) []*flood {
		f := &flood{name: "a flood", count: count}
		f.sent.Store(9)
		return []*flood{f}
	}
	refused := map[int]int{0: 1, 401: 4, 429: 4}
	for what, c := range map[string]struct {
		all     []*flood
		good    span
		highest int64
		want    string
	}{
		"all well":                {flooded(refused), served, 100 << 20, ""},
		"a good request failed":   {flooded(refused), span{took: served.took, failed: "GET: 503"}, 1, "503"},
		"no good request":         {flooded(refused), span{}, 1, "0 served"},
		"the server fell over":    {flooded(map[int]int{500: 1}), served, 1, "1 answers 500"},
		"a wrong key was let in":  {flooded(map[int]int{200: 3}), served, 1, "3 answers 200"},
		"nothing was sent":        {[]*flood{{name: "a flood"}}, served, 1, "nothing was sent"},
		"the memory has no bound": {flooded(refused), served, 101 << 20, "101 MiB"},
	} {
		err := judge(c.all, []span{c.good}, c.highest, 100)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if s := served.String(); !strings.HasPrefix(s, "2, p50 1ms") || (span{}).String() != "none" {
		t.Error(s)
	}
}
