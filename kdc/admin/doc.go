// Package admin is how an operator's programs reach a running KDC: HTTP with JSON bodies over the unix socket
// DIR/admin.sock, which its owner alone can open. Handler is the KDC's side, Client the other.
//
//	GET    /v1/status                                               -> kdc.Status
//	POST   /v1/peers                 kdc.NewPeer                    -> kdc.Enrolment
//	GET    /v1/peers                                                -> {"peers": [kdc.PeerInfo]}
//	GET    /v1/peers/NAME                                           -> kdc.PeerInfo
//	PATCH  /v1/peers/NAME            kdc.PeerChange                 -> kdc.PeerInfo
//	DELETE /v1/peers/NAME                                           -> {"receipts": [kdc.Receipt]}
//	POST   /v1/peers/NAME/suspend                                   -> {"receipts": [kdc.Receipt]}
//	POST   /v1/peers/NAME/resume                                    -> {}
//	POST   /v1/peers/NAME/token      {"token_ttl": NS}              -> kdc.Enrolment
//	POST   /v1/peers/NAME/rotate     {"wait": NS}                   -> kdc.Rotations
//	POST   /v1/rotate                {"wait": NS}                   -> kdc.Rotations, of all peers
//	POST   /v1/policy/check          the document                   -> kdc.PolicyReport
//	PUT    /v1/policy                the document                   -> kdc.PolicyReport
//	           ?if_revision=N&note=TEXT
//	GET    /v1/policy?revision=N     (0 or none: the one in force)  -> kdc.PolicyRevision
//	GET    /v1/sessions              ?id=ID&peer=NAME&pair_a=NAME&pair_b=NAME
//	                                                                -> {"sessions": [kdc.SessionInfo]}
//	GET    /v1/sessions/watch        likewise                       -> kdc.SessionEvent, a line each, without end
//	POST   /v1/sessions/revoke       kdc.SessionFilter, "wait": NS  -> {"receipts": [kdc.Receipt]}
//	GET    /metrics                                                 -> Prometheus text
//
// The server of its socket adds profiles of the program beneath /debug/pprof/.
//
// A request body is one JSON value of at most 64 KiB without unknown fields, except a policy document, which travels as
// it is (at most kdc.MaxPolicy bytes). Durations are in nanoseconds. Lists in answers are never null.
//
// A failure has a status of 400 or above and the body
//
//	{"code": CODE, "message": TEXT, "faults": [{"line": N, "column": N, "message": TEXT}]}
//
// with faults only where a policy has them. Client turns the code back into the error that the KDC gave, so its callers
// branch on kdc.ErrNotFound and the others as if the KDC were in their own process.
package admin
