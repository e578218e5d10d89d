// Package awssim provides, for tests, the few operations of AWS that the functions
// call beside DynamoDB's: KMS, the Parameter Store, Secrets Manager, SQS and EventBridge,
// in the JSON protocol that the SDK speaks.
//
// What the real services check is checked: a wrapped key opens only under its own KMS
// key and encryption context. Credentials and signatures are not looked at.
package awssim

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Server answers for all services at one address. It may be used concurrently.
type Server struct {
	aead cipher.AEAD

	mu         sync.Mutex // guards what follows
	parameters map[string]string
	secrets    map[string]string
	refusals   map[string]string
	sent       map[string][]string
	groups     map[string][]string
	waiting    map[string][]message
	put        []Entry
	refused    map[int]string // entries of the next PutEvents
	calls      []string
}

// Entry is one event that was put onto a bus.
type Entry struct {
	EventBusName string
	Source       string
	DetailType   string
	Detail       string
	Time         float64 // unix s
}

// New returns a Server that knows no parameters and no secrets.
func New() *Server {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, _ := aes.NewCipher(key) // the length is right, so neither can fail
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	return &Server{
		aead: aead, parameters: map[string]string{}, secrets: map[string]string{},
		refusals: map[string]string{}, sent: map[string][]string{}, groups: map[string][]string{}, waiting: map[string][]message{},
	}
}

// SetParameter makes a SecureString of the Parameter Store.
func (s *Server) SetParameter(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parameters[name] = value
}

// SetSecret makes a text secret of Secrets Manager.
func (s *Server) SetSecret(id, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[id] = value
}

// Refuse makes an operation, such as "TrentService.Decrypt", answer with an error of
// that type; "" lets it through again.
func (s *Server) Refuse(operation, errorType string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals[operation] = errorType
}

// Sent returns the bodies of the messages that were sent to a queue, by its URL.
func (s *Server) Sent(queue string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.sent[queue]...)
}

// Groups returns the message groups of the messages that were sent to a queue, by its
// URL; "" for one without.
func (s *Server) Groups(queue string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.groups[queue]...)
}

// A message waits in a queue. One that was received stays hidden for good.
type message struct {
	body, receipt string
	hidden        bool
}

// Deliver puts a message into a queue, by its URL, to be received.
func (s *Server) Deliver(queue, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[queue] = append(s.waiting[queue], message{body: body, receipt: rand.Text()})
}

// Waiting returns the bodies of the messages that were delivered to a queue, by its
// URL, and not deleted.
func (s *Server) Waiting(queue string) (bodies []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.waiting[queue] {
		bodies = append(bodies, m.body)
	}
	return bodies
}

// Put returns the events that were put, in order.
func (s *Server) Put() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Entry(nil), s.put...)
}

// RefuseEntry has the next PutEvents refuse its nth entry, from 0 on, with that code, and
// take the others.
func (s *Server) RefuseEntry(n int, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused == nil {
		s.refused = map[int]string{}
	}
	s.refused[n] = code
}

// Calls returns the operations that were asked for, in order.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// request holds the members of every operation's input.
type request struct {
	KeyID             string            `json:"KeyId"`
	Plaintext         []byte            `json:"Plaintext"`
	CiphertextBlob    []byte            `json:"CiphertextBlob"`
	EncryptionContext map[string]string `json:"EncryptionContext"`
	Names             []string          `json:"Names"`
	WithDecryption    bool              `json:"WithDecryption"`
	SecretID          string            `json:"SecretId"`
	QueueURL          string            `json:"QueueUrl"`
	MessageBody       string            `json:"MessageBody"`
	MessageGroupID    string            `json:"MessageGroupId"`
	ReceiptHandle     string            `json:"ReceiptHandle"`
	Most              int               `json:"MaxNumberOfMessages"`
	Entries           []Entry           `json:"Entries"`
}

type object map[string]any

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	operation := r.Header.Get("X-Amz-Target")
	s.calls = append(s.calls, operation)
	var in request
	errorType := "SerializationException"
	var out any
	refusal := s.refusals[operation]
	switch {
	case refusal != "":
		errorType = refusal
	case json.NewDecoder(r.Body).Decode(&in) == nil:
		out, errorType = s.answer(operation, in)
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	if errorType != "" {
		w.WriteHeader(http.StatusBadRequest)
		out = object{"__type": errorType, "message": "simulated"}
	}
	_ = json.NewEncoder(w).Encode(out)
}

func (s *Server) answer(operation string, in request) (out any, errorType string) {
	switch operation {
	case "TrentService.Encrypt":
		return object{"KeyId": in.KeyID, "CiphertextBlob": s.aead.Seal(nil, nil, in.Plaintext, in.bound())}, ""
	case "TrentService.Decrypt":
		plain, err := s.aead.Open(nil, nil, in.CiphertextBlob, in.bound())
		if err != nil {
			return nil, "InvalidCiphertextException"
		}
		return object{"KeyId": in.KeyID, "Plaintext": plain}, ""
	case "AmazonSSM.GetParameters":
		return s.getParameters(in), ""
	case "secretsmanager.GetSecretValue":
		value, ok := s.secrets[in.SecretID]
		if !ok {
			return nil, "ResourceNotFoundException"
		}
		return object{"Name": in.SecretID, "SecretString": value}, ""
	case "AmazonSQS.SendMessage":
		s.sent[in.QueueURL] = append(s.sent[in.QueueURL], in.MessageBody)
		s.groups[in.QueueURL] = append(s.groups[in.QueueURL], in.MessageGroupID)
		return object{"MessageId": rand.Text(), "MD5OfMessageBody": digest(in.MessageBody)}, ""
	case "AmazonSQS.ReceiveMessage":
		return s.receive(in), ""
	case "AmazonSQS.DeleteMessage":
		s.waiting[in.QueueURL] = slices.DeleteFunc(s.waiting[in.QueueURL], func(m message) bool { return m.receipt == in.ReceiptHandle })
		return object{}, ""
	case "AWSEvents.PutEvents":
		return s.putEvents(in.Entries)
	}
	return nil, "UnknownOperationException"
}

// receive gives messages that nobody was given before, as a queue does until they
// become visible again. It gives fewer than it could, as SQS may.
func (s *Server) receive(in request) any {
	given := []object{}
	for n := range s.waiting[in.QueueURL] {
		if m := &s.waiting[in.QueueURL][n]; !m.hidden && len(given) < max(1, in.Most-1) {
			m.hidden = true
			given = append(given, object{"MessageId": rand.Text(), "ReceiptHandle": m.receipt, "Body": m.body, "MD5OfBody": digest(m.body)})
		}
	}
	return object{"Messages": given}
}

// digest is what the SDK compares a message's body with.
func digest(body string) string {
	sum := md5.Sum([]byte(body))
	return hex.EncodeToString(sum[:])
}

// putEvents takes 1 to 10 entries with what EventBridge demands of each.
func (s *Server) putEvents(entries []Entry) (out any, errorType string) {
	if len(entries) < 1 || len(entries) > 10 {
		return nil, "ValidationException"
	}
	refused := s.refused
	s.refused = nil
	failed, results := 0, []object{}
	for n, e := range entries {
		code := refused[n]
		if e.Source == "" || e.DetailType == "" || !json.Valid([]byte(e.Detail)) || !strings.HasPrefix(e.Detail, "{") {
			code = "MalformedDetail"
		}
		if code != "" {
			failed++
			results = append(results, object{"ErrorCode": code, "ErrorMessage": "simulated"})
			continue
		}
		s.put = append(s.put, e)
		results = append(results, object{"EventId": rand.Text()})
	}
	return object{"FailedEntryCount": failed, "Entries": results}, ""
}

// bound is what a ciphertext is bound to: the key and the encryption context. A map
// becomes JSON in the order of its keys.
func (in request) bound() []byte {
	b, _ := json.Marshal(object{"key": in.KeyID, "context": in.EncryptionContext})
	return b
}

func (s *Server) getParameters(in request) any {
	found, invalid := []object{}, []string{}
	for _, name := range in.Names {
		value, ok := s.parameters[name]
		switch {
		case !ok:
			invalid = append(invalid, name)
		case !in.WithDecryption:
			found = append(found, object{"Name": name, "Value": strings.Repeat("A", 16)}) // the ciphertext
		default:
			found = append(found, object{"Name": name, "Value": value})
		}
	}
	return object{"Parameters": found, "InvalidParameters": invalid}
}
