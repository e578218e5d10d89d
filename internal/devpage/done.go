package devpage

import (
	"html/template"
	"net/http"
	"regexp"
)

// doneView is what static/done.html shows: Code where there is no consent to confirm.
type doneView struct {
	Session, Confirm, Code string
}

// confirmToken is what a confirm token may look like. Neither it nor sessionID has a
// character that a shell would take for more than text.
var confirmToken = regexp.MustCompile(`^[A-Za-z0-9_-]{1,120}$`)

// donePage is GET /app/done: the return address of somebody who is the application, with
// curl. What the browser brought stands there ready to be copied; nothing is confirmed,
// since only the application may. The confirm token is in the browser's address line
// already.
func donePage() http.HandlerFunc {
	shown := template.Must(template.ParseFS(static, "static/done.html"))
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		v := doneView{Session: q.Get("evergrant_session"), Confirm: q.Get("evergrant_confirm")}
		if !sessionID.MatchString(v.Session) || !confirmToken.MatchString(v.Confirm) {
			v = doneView{Code: "nothing"}
			if code := q.Get("evergrant_error"); outcome.MatchString(code) {
				v.Code = code
			}
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_ = shown.Execute(w, v) // the browser went away
	}
}
