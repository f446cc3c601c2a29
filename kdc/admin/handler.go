package admin

import (
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ssmnet/kdc"
)

// handler answers requests out of a KDC. Each method is one line of the table in the package's doc.
type handler struct{ k Operations }

// Handler serves the API of k. Whoever can reach it may do everything: serve it on a socket of the owner's alone.
func Handler(k Operations) http.Handler {
	h := handler{k}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]endpoint{
		"GET /v1/status":                h.status,
		"POST /v1/peers":                h.addPeer,
		"GET /v1/peers":                 h.peers,
		"GET /v1/peers/{name}":          h.peer,
		"PATCH /v1/peers/{name}":        h.changePeer,
		"DELETE /v1/peers/{name}":       h.removePeer,
		"POST /v1/peers/{name}/suspend": h.suspendPeer,
		"POST /v1/peers/{name}/resume":  h.resumePeer,
		"POST /v1/peers/{name}/token":   h.newToken,
		"POST /v1/peers/{name}/rotate":  h.rotatePeer,
		"POST /v1/rotate":               h.rotateAll,
		"POST /v1/policy/check":         h.checkPolicy,
		"PUT /v1/policy":                h.applyPolicy,
		"GET /v1/policy":                h.policy,
		"GET /v1/sessions":              h.sessions,
		"POST /v1/sessions/revoke":      h.revokeSessions,
	} {
		mux.Handle(pattern, serve)
	}
	mux.HandleFunc("GET /v1/sessions/watch", h.watchSessions)
	mux.Handle("GET /metrics", metricsHandler(k))
	return mux
}

func (h handler) status(*request) (any, error) {
	s := h.k.Status()
	s.Addresses, s.Listen, s.Overlays = list(s.Addresses), list(s.Listen), list(s.Overlays)
	return s, nil
}

func (h handler) addPeer(r *request) (any, error) {
	var n kdc.NewPeer
	if err := r.decode(&n); err != nil {
		return nil, err
	}
	return enrolment(h.k.AddPeer(r.Context(), n))
}

func (h handler) peers(*request) (any, error) {
	all := list(h.k.Peers())
	for i, p := range all {
		all[i] = filled(p)
	}
	return peersBody{all}, nil
}

func (h handler) peer(r *request) (any, error) { return peer(h.k.Peer(r.PathValue("name"))) }

func (h handler) changePeer(r *request) (any, error) {
	var c kdc.PeerChange
	if err := r.decode(&c); err != nil {
		return nil, err
	}
	return peer(h.k.ChangePeer(r.Context(), r.PathValue("name"), c))
}

func (h handler) removePeer(r *request) (any, error) {
	return receipts(h.k.RemovePeer(r.Context(), r.PathValue("name")))
}

func (h handler) suspendPeer(r *request) (any, error) {
	return receipts(h.k.SuspendPeer(r.Context(), r.PathValue("name")))
}

func (h handler) resumePeer(r *request) (any, error) {
	return empty{}, h.k.ResumePeer(r.Context(), r.PathValue("name"))
}

func (h handler) newToken(r *request) (any, error) {
	var t tokenBody
	if err := r.decode(&t); err != nil {
		return nil, err
	}
	return enrolment(h.k.NewToken(r.Context(), r.PathValue("name"), t.TTL))
}

func (h handler) rotatePeer(r *request) (any, error) {
	var b waitBody
	if err := r.decode(&b); err != nil {
		return nil, err
	}
	if err := checkWait(b.Wait); err != nil {
		return nil, err
	}
	return rotations(h.k.RotatePeer(r.Context(), r.PathValue("name"), b.Wait))
}

func (h handler) rotateAll(r *request) (any, error) {
	var b waitBody
	if err := r.decode(&b); err != nil {
		return nil, err
	}
	if err := checkWait(b.Wait); err != nil {
		return nil, err
	}
	return rotations(h.k.RotateAll(r.Context(), b.Wait))
}

func (h handler) checkPolicy(r *request) (any, error) {
	text, err := r.body(kdc.MaxPolicy)
	if err != nil {
		return nil, err
	}
	return report(h.k.CheckPolicy(r.Context(), text))
}

func (h handler) applyPolicy(r *request) (any, error) {
	q, err := r.query("if_revision", "note")
	if err != nil {
		return nil, err
	}
	var ifRevision *uint64
	if q.Has("if_revision") {
		n, err := revision(q, "if_revision")
		if err != nil {
			return nil, err
		}
		ifRevision = &n
	}
	text, err := r.body(kdc.MaxPolicy)
	if err != nil {
		return nil, err
	}
	return report(h.k.ApplyPolicy(r.Context(), text, ifRevision, q.Get("note")))
}

func (h handler) policy(r *request) (any, error) {
	q, err := r.query("revision")
	if err != nil {
		return nil, err
	}
	n := uint64(0)
	if q.Has("revision") {
		if n, err = revision(q, "revision"); err != nil {
			return nil, err
		}
	}
	return h.k.Policy(r.Context(), n)
}

func (h handler) sessions(r *request) (any, error) {
	f, err := r.sessionFilter()
	if err != nil {
		return nil, err
	}
	return sessionsBody{list(h.k.Sessions(f))}, nil
}

// watchSessions sends each event as it comes. It is no endpoint: its answer has no end of its own.
func (h handler) watchSessions(w http.ResponseWriter, r *http.Request) {
	f, err := (&request{r, w}).sessionFilter()
	var events iter.Seq[kdc.SessionEvent]
	if err == nil {
		events, err = h.k.WatchSessions(r.Context(), f)
	}
	if err != nil {
		status, failed := describe(err)
		reply(w, status, failed)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.Header().Set("Cache-Control", "no-store")
	out, lines := http.NewResponseController(w), json.NewEncoder(w)
	out.Flush()
	for e := range events {
		if lines.Encode(e) != nil || out.Flush() != nil {
			return
		}
	}
}

func (h handler) revokeSessions(r *request) (any, error) {
	var b revokeBody
	if err := r.decode(&b); err != nil {
		return nil, err
	}
	if err := checkWait(b.Wait); err != nil {
		return nil, err
	}
	return receipts(h.k.RevokeSessions(r.Context(), b.SessionFilter, b.Wait))
}

func checkWait(d time.Duration) error {
	if d < 0 || d > MaxWait {
		return invalid("wait %v is out of bounds: 0s to %v", d, MaxWait)
	}
	return nil
}

// revision reads a policy revision out of the query.
func revision(q url.Values, key string) (uint64, error) {
	n, err := strconv.ParseUint(q.Get(key), 10, 64)
	if err != nil {
		return 0, invalid("%s %q is not a revision: want a number", key, q.Get(key))
	}
	return n, nil
}

// list is s, and never null in JSON.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func filled(p kdc.PeerInfo) kdc.PeerInfo {
	p.Addresses, p.Subnets = list(p.Addresses), list(p.Subnets)
	p.Tags, p.Endpoints = list(p.Tags), list(p.Endpoints)
	return p
}

func peer(p kdc.PeerInfo, err error) (any, error) { return filled(p), err }

func enrolment(e kdc.Enrolment, err error) (any, error) {
	e.Addresses = list(e.Addresses)
	return e, err
}

func report(p kdc.PolicyReport, err error) (any, error) {
	p.Warnings, p.Revoked, p.Narrowed = list(p.Warnings), list(p.Revoked), list(p.Narrowed)
	return p, err
}

func rotations(r kdc.Rotations, err error) (any, error) {
	r.Rotations = list(r.Rotations)
	return r, err
}

func receipts(rs []kdc.Receipt, err error) (any, error) { return receiptsBody{list(rs)}, err }
