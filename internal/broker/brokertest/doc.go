// Package brokertest provides a whole deployment for tests: a broker over real tables, a
// provider behind real HTTP, the API in front of it, one clock, one log. Only tests
// import it.
//
//	w := brokertest.New(t, brokertest.Options{Profile: "family"})
//	id := w.Connect("alice")                        // by calls of the broker
//	w.Must(w.Home.Force(id))                        // refresh it now
//	w.Call("token", "GET", "/v1/connections/"+id+"/token", "").Want(t, 200, "")
//	w.Settle(id)                                    // time goes on; all must be well
//
// A World is made of parts that can be used without it: Clock, Log, Bolt, OnStores, Seed,
// Simulate, Profile, Browser.
//
// # Processes
//
// A Process is a broker with its own way to the tables and to the provider. World.Start
// starts another one. Faults are laid on single calls of it, by OnStore and OnWire, and
// it can crash at any of them. World.Home is one that nothing befalls.
//
// # The API
//
// World.Origin is where Home is served over HTTP; Serve puts another handler there. Call
// is a backend with one of the keys, Browser a person: a jar of cookies that follows no
// redirect by itself. Session, Return and Confirm are the steps of a connect flow,
// ConnectHTTP is all of them.
//
// # Secrets
//
// Whatever a provider gives, and the codes, states, cookies, keys and confirm tokens of
// all flows here, are noted as secrets. Check looks for them in the log and in every
// stored item; WantNoSecrets looks in any text.
package brokertest
