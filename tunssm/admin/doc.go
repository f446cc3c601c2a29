// Package admin is how an operator's commands reach a running SSM: HTTP with JSON over a unix socket of the owner's
// alone, and the client for it.
//
//	GET  /v1/status          tunssm.Status
//	POST /v1/ping/{peer}     one echo through the tunnel: {"micros": 412}
//	GET  /v1/trace?to=&protocol=&port=&from=&ipv6=    tunssm.Trace of a tunssm.Query; from and ipv6 may be absent
//	POST /v1/sessions/{peer}/rekey    another session takes over
//	POST /v1/sessions/{peer}/close    the session ends
//	POST /v1/reroute         the operator's decisions on routes are read again, and the routes offered anew
//	POST /v1/down            ends the SSM; the answer comes first
//	GET  /metrics            Prometheus' text format
//
// The server of its socket adds profiles of the program beneath /debug/pprof/.
//
// An error is {"code": ..., "message": ...} with the codes of errors.go. Lists are never null.
package admin
