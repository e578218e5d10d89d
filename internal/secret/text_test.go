package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/evergrant/evergrant/internal/secret"
)

const canary = "CANARY-b1f0c2"

// forms are all ways in which the canary could show itself.
func forms() []string {
	return []string{
		canary,
		fmt.Sprintf("%x", canary),
		fmt.Sprintf("%X", canary),
		fmt.Sprintf("% x", canary),
		strings.Trim(fmt.Sprint([]byte(canary)), "[]"),
		fmt.Sprintf("%q", []byte(canary)),
	}
}

func mustHide(t *testing.T, how, printed string) {
	t.Helper()
	for _, f := range forms() {
		if strings.Contains(printed, f) {
			t.Errorf("%s shows the secret: %s", how, printed)
		}
	}
}

type hidden struct {
	t  secret.Text
	p  *secret.Text
	in struct{ deep secret.Text }
	m  map[string]secret.Text
	s  []secret.Text
	a  any
}

type shown struct {
	T secret.Text            `json:"t"`
	P *secret.Text           `json:"p"`
	M map[string]secret.Text `json:"m"`
	S []secret.Text          `json:"s"`
	A any                    `json:"a"`
}

// holders are values that hold the canary in every way that a program would.
func holders() map[string]any {
	text := secret.New(canary)
	h := hidden{t: text, p: &text, m: map[string]secret.Text{"k": text}, s: []secret.Text{text}, a: text}
	h.in.deep = text
	s := shown{T: text, P: &text, M: h.m, S: h.s, A: text}
	return map[string]any{
		"text": text, "pointer": &text, "slice": h.s, "map": h.m, "array": [1]secret.Text{text},
		"unexported fields": h, "pointer to unexported fields": &h, "slice of unexported fields": []hidden{h},
		"exported fields": s, "pointer to exported fields": &s, "map of structs": map[string]any{"a": h, "b": &s},
		"error":           fmt.Errorf("refresh: %w", fmt.Errorf("token %v of %+v", text, h)),
		"error of holder": error(holderError{h}),
	}
}

type holderError struct{ hidden }

func (e holderError) Error() string { return fmt.Sprintf("%+v %#v", e.hidden, e.hidden) }

var (
	_ = mutant("T27", "internal/secret/text.go", `_, _ = f.Write([]byte(Redacted))`, `_, _ = f.Write([]byte(t.Reveal()))`)
	_ = mutant("T27", "internal/secret/text.go", `return []byte(Redacted), nil`, `return []byte(t.Reveal()), nil`)
	_ = mutant("T27", "internal/secret/text.go", `return slog.StringValue(Redacted)`, `return slog.StringValue(t.Reveal())`)
	_ = mutant("T27", "internal/secret/text.go", `func (t Text) String() string { return Redacted }`, `func (t Text) String() string { return t.Reveal() }`)
)

func TestThreat_T27_a_secret_shows_in_no_format(t *testing.T) {
	t.Run("fmt", fmtHidesAText)
	t.Run("redacted", fmtPrintsRedacted)
	t.Run("encoders", encodersHideAText)
	t.Run("slog", slogHidesAText)
	t.Run("errors", errorsHideAText)
}

func fmtHidesAText(t *testing.T) {
	for name, v := range holders() {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%c", "%U", "%t", "%e", "%o", "%b", "%O", "%T", "%20s", "%.3s", "%z"} {
			mustHide(t, name+" under "+verb, fmt.Sprintf(verb, v))
		}
		mustHide(t, name+" under Sprint", fmt.Sprint(v)+fmt.Sprintln(v))
		mustHide(t, name+" as width", fmt.Sprintf("%*d %[3]*.[2]*[1]f", v, v, v))
	}
}

func fmtPrintsRedacted(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, secret.New(canary)); got != secret.Redacted {
			t.Errorf("%s prints %q", verb, got)
		}
	}
	text := secret.New(canary)
	if text.String() != secret.Redacted || text.GoString() != secret.Redacted {
		t.Error("String or GoString prints something else")
	}
}

func encodersHideAText(t *testing.T) {
	for name, v := range holders() {
		// Some of these refuse the value, which hides it too.
		j, _ := json.Marshal(v)
		mustHide(t, name+" in JSON", string(j))
		x, _ := xml.Marshal(v)
		mustHide(t, name+" in XML", string(x))
		var g bytes.Buffer
		_ = gob.NewEncoder(&g).Encode(v)
		mustHide(t, name+" in gob", g.String())
	}
	j, err := json.Marshal(shown{T: secret.New(canary)})
	if err != nil || !strings.Contains(string(j), `"t":"[redacted]"`) {
		t.Errorf("JSON is %s, %v", j, err)
	}
}

func slogHidesAText(t *testing.T) {
	var b bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&b, options), slog.NewTextHandler(&b, options)} {
		log := slog.New(handler)
		for name, v := range holders() {
			log.Info(name, "v", v, slog.Group("g", slog.Any("v", v)))
			log.With("v", v).WithGroup("g").Debug(name, "list", []any{v})
		}
	}
	mustHide(t, "slog", b.String())
	if !strings.Contains(b.String(), secret.Redacted) {
		t.Error("slog did not say that it redacts")
	}
}

func errorsHideAText(t *testing.T) {
	text := secret.New(canary)
	err := errors.Join(fmt.Errorf("a %s", text), fmt.Errorf("b %w", holderError{hidden{t: text}}))
	mustHide(t, "error", err.Error()+fmt.Sprintf("%+v %#v", err, err))
}

// TestPanicHidesAText lets a child process die of panics whose values hold a secret,
// and reads what the runtime prints.
func TestPanicHidesAText(t *testing.T) {
	if name := os.Getenv("EVERGRANT_TEST_PANIC"); name != "" {
		panic(holders()[name])
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"text", "pointer", "unexported fields", "exported fields", "map", "error of holder"} {
		child := exec.Command(self, "-test.run=^TestPanicHidesAText$")
		child.Env = append(os.Environ(), "EVERGRANT_TEST_PANIC="+name, "GOTRACEBACK=all")
		out, err := child.CombinedOutput()
		if err == nil || !strings.Contains(string(out), "panic:") {
			t.Fatalf("%s: the child did not panic: %v", name, err)
		}
		mustHide(t, "panic of "+name, string(out))
	}
}

func TestTextHoldsWhatItWasGiven(t *testing.T) {
	text := secret.New(canary)
	if text.Reveal() != canary || text.Len() != len(canary) || text.IsZero() {
		t.Errorf("Reveal, Len or IsZero is wrong")
	}
	var zero secret.Text
	if zero != secret.New("") || !zero.IsZero() || zero.Reveal() != "" || zero.Len() != 0 {
		t.Error("the zero Text is not the empty one")
	}
}

func TestEqualComparesContentsAndFailsClosed(t *testing.T) {
	a, b, empty := secret.New(canary), secret.New(canary), secret.Text{}
	if a == b {
		t.Error("== of two Texts tells that they are equal: it must not be relied on")
	}
	if !a.Equal(b) || a.Equal(secret.New(canary+"x")) {
		t.Error("Equal is wrong")
	}
	if a.Equal(empty) || empty.Equal(a) || empty.Equal(empty) {
		t.Error("an empty Text equals something")
	}
}

func TestTextIsReadFromJSON(t *testing.T) {
	var v struct {
		Token secret.Text `json:"token"`
		None  secret.Text `json:"none"`
	}
	if err := json.Unmarshal([]byte(`{"token":"`+canary+`"}`), &v); err != nil {
		t.Fatal(err)
	}
	if v.Token.Reveal() != canary || !v.None.IsZero() {
		t.Errorf("read %d bytes and %d", v.Token.Len(), v.None.Len())
	}
	// What does not fit is reported without being quoted.
	err := json.Unmarshal([]byte(`{"token":{"x":"`+canary+`"}}`), &v)
	if err == nil {
		t.Fatal("an object was read as a Text")
	}
	mustHide(t, "JSON error", err.Error())
}
