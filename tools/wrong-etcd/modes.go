package main

import (
	"fmt"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A mode falsifies the answers of one kind. All other answers are correct.
type mode struct {
	name string
	// What happens to a client.
	what string
	// Whether the tests try the mode with one endpoint, and with two endpoints.
	alone, beside bool
	// Whether the server demands a user.
	auth bool
	// Whether earlier connections and watches continue.
	keepsConnections bool

	// Refuses a request, or a stream when it is opened.
	refuse func(*call) error
	// Changes the answer to a request.
	distort func(*call, any) (any, error)
	// Returns the messages that a watch stream sends instead of a message.
	watch func(*watchStream, *etcdserverpb.WatchResponse) ([]*etcdserverpb.WatchResponse, error)
	// Runs ten times a second for each watch stream.
	tick func(*watchStream) error
	// Returns the answers that are sent instead of the answer to a keep-alive request.
	keepAlive func(*keepAliveResponse) ([]*keepAliveResponse, error)
	// Returns the store for a request from this address.
	store func(e *endpoint, from string) *store
	// Serves a connection instead of etcd.
	conn func(net.Conn)
	web  http.HandlerFunc
	// A token is good for fewer requests than this number, or for all requests if it is 0.
	tokenUses int
}

// Returns a new mode with this name, or nil.
func find(name string) *mode {
	for _, m := range modes() {
		if m.name == name {
			return m
		}
	}
	return nil
}

// Returns new modes, because some have state.
func modes() []*mode {
	var all []*mode
	for _, group := range [][]*mode{
		foreignStatuses(), etcdStatuses(), ranges(), headers(), txns(), watches(), leases(), auths(),
		transports(), versions(), clusters(),
	} {
		all = append(all, group...)
	}
	return all
}

// --- statuses ------------------------------------------------------------------------------------

func isRequest(c *call) bool { return c.method != "Watch" && c.method != "LeaseKeepAlive" }
func isWatch(c *call) bool   { return c.method == "Watch" }
func isRenewal(c *call) bool { return c.method == "LeaseKeepAlive" }

func isOf(methods ...string) func(*call) bool {
	return func(c *call) bool {
		for _, method := range methods {
			if c.method == method {
				return true
			}
		}
		return false
	}
}

func refuses(which func(*call) bool, err error) func(*call) error {
	return func(c *call) error {
		if which(c) {
			return err
		}
		return nil
	}
}

// Each code of gRPC with a text that etcd does not use, from each kind of call.
func foreignStatuses() []*mode {
	texts := map[codes.Code]string{
		codes.Canceled:           "context canceled",
		codes.Unknown:            "unexpected HTTP status code received from server: 520",
		codes.InvalidArgument:    "http: invalid Host header",
		codes.DeadlineExceeded:   "upstream request timeout",
		codes.NotFound:           "no route to cluster",
		codes.AlreadyExists:      "a resource of this name exists",
		codes.PermissionDenied:   "RBAC: access denied",
		codes.ResourceExhausted:  "rate limit exceeded",
		codes.FailedPrecondition: "the tunnel is not ready",
		codes.Aborted:            "the session was moved",
		codes.OutOfRange:         "offset beyond the end",
		codes.Unimplemented:      "unknown service etcdserverpb.KV",
		codes.Internal:           "stream terminated by RST_STREAM with error code: INTERNAL_ERROR",
		codes.Unavailable:        "no healthy upstream",
		codes.DataLoss:           "checksum mismatch",
		codes.Unauthenticated:    "Jwt is missing",
	}
	kinds := []struct {
		name  string
		which func(*call) bool
	}{{"requests", isRequest}, {"watches", isWatch}, {"renewals", isRenewal}}
	var all []*mode
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		for _, kind := range kinds {
			all = append(all, &mode{
				name:   fmt.Sprintf("status/%s/%s", kind.name, code),
				what:   fmt.Sprintf("a gateway answers %s with %s: %s", kind.name, code, texts[code]),
				alone:  kind.name == "requests",
				beside: true,
				refuse: refuses(kind.which, status.Error(code, texts[code])),
			})
		}
	}
	return all
}

// etcd's own errors in wrong places.
func etcdStatuses() []*mode {
	newMode := func(name string, which func(*call) bool, err error) *mode {
		return &mode{
			name:   "etcd/" + name,
			what:   err.Error(),
			alone:  true,
			beside: true,
			refuse: refuses(which, err),
		}
	}
	corrupt := rpctypes.ErrGRPCCorrupt
	all := []*mode{
		newMode("no-leader/requests", isRequest, rpctypes.ErrGRPCNoLeader),
		newMode("no-leader/watches", isWatch, rpctypes.ErrGRPCNoLeader),
		newMode("no-leader/renewals", isRenewal, rpctypes.ErrGRPCNoLeader),
		newMode("timeout/requests", isRequest, rpctypes.ErrGRPCTimeout),
		newMode("leader-changed/requests", isRequest, rpctypes.ErrGRPCLeaderChanged),
		newMode("stopped/requests", isRequest, rpctypes.ErrGRPCStopped),
		newMode("corrupt/requests", isRequest, corrupt),
		newMode("learner/requests", isRequest, rpctypes.ErrGRPCNotSupportedForLearner),
		newMode("not-capable/requests", isRequest, rpctypes.ErrGRPCNotCapable),
		newMode("too-many-requests/requests", isRequest, rpctypes.ErrGRPCRequestTooManyRequests),
		newMode("no-space/writes", isOf("Put", "Txn", "LeaseGrant"), rpctypes.ErrGRPCNoSpace),
		newMode("request-too-large/writes", isOf("Put", "Txn"), rpctypes.ErrGRPCRequestTooLarge),
		newMode("permission-denied/requests", isRequest, rpctypes.ErrGRPCPermissionDenied),
		newMode("auth-not-enabled/requests", isRequest, rpctypes.ErrGRPCAuthNotEnabled),
		newMode("cluster-id-mismatch/requests", isRequest, rpctypes.ErrGRPCClusterIDMismatch),
		newMode("future-revision/reads", isOf("Range", "Txn"), rpctypes.ErrGRPCFutureRev),
		newMode("compacted/reads", isOf("Range", "Txn"), rpctypes.ErrGRPCCompacted),
		newMode("lease-not-found/writes", isOf("Put", "Txn"), rpctypes.ErrGRPCLeaseNotFound),
		newMode("lease-exists/grants", isOf("LeaseGrant"), rpctypes.ErrGRPCLeaseExist),
		newMode("lease-too-large/grants", isOf("LeaseGrant"), rpctypes.ErrGRPCLeaseTTLTooLarge),
		newMode("lease-not-found/revokes", isOf("LeaseRevoke"), rpctypes.ErrGRPCLeaseNotFound),
		newMode("too-many-operations/txns", isOf("Txn"), rpctypes.ErrGRPCTooManyOps),
		newMode("duplicate-key/txns", isOf("Txn"), rpctypes.ErrGRPCDuplicateKey),
	}
	// An error that every member would return is no fault of the member that returns it.
	final := []string{
		"no-space", "request-too-large", "permission-denied", "future-revision", "compacted",
		"lease-", "too-many-op",
		"duplicate-key", "auth-not-enabled",
	}
	for _, m := range all {
		for _, text := range final {
			if strings.HasPrefix(m.name, "etcd/"+text) {
				m.beside = false
			}
		}
	}
	return all
}

// --- answers to reads ----------------------------------------------------------------------------

// Calls change for each range in an answer, including the ranges of a transaction.
func eachRange(request, answer any, change func(*rangeRequest, *rangeResponse)) {
	switch answer := answer.(type) {
	case *etcdserverpb.RangeResponse:
		change(request.(*etcdserverpb.RangeRequest), answer)
	case *etcdserverpb.TxnResponse:
		txn := request.(*etcdserverpb.TxnRequest)
		ops := txn.Success
		if !answer.Succeeded {
			ops = txn.Failure
		}
		for i, response := range answer.Responses {
			if found := response.GetResponseRange(); found != nil {
				change(ops[i].GetRequestRange(), found)
			}
		}
	}
}

// Returns a mode that changes each answer about a range of keys, but not answers about one key.
func onRanges(name, what string, change func(*rangeRequest, *rangeResponse)) *mode {
	return &mode{
		name:   "range/" + name,
		what:   what,
		alone:  true,
		beside: true,
		distort: func(c *call, answer any) (any, error) {
			eachRange(c.request, answer, func(r *rangeRequest, found *rangeResponse) {
				if len(r.RangeEnd) != 0 {
					change(r, found)
				}
			})
			return answer, nil
		},
	}
}

type rangeRequest = etcdserverpb.RangeRequest
type rangeResponse = etcdserverpb.RangeResponse

func ranges() []*mode {
	kvOf := func(key string, like []*mvccpb.KeyValue) *mvccpb.KeyValue {
		kv := &mvccpb.KeyValue{Key: []byte(key), CreateRevision: 2, ModRevision: 2, Version: 1}
		if len(like) != 0 {
			kv.Value = like[0].Value
		}
		return kv
	}
	var pages int64
	var mu sync.Mutex
	all := []*mode{
		onRanges("count-too-small", "the count is one less than the keys",
			func(_ *rangeRequest, a *rangeResponse) {
				a.Count--
			}),
		onRanges("count-too-large", "the count is one more than the keys",
			func(_ *rangeRequest, a *rangeResponse) {
				a.Count++
			}),
		onRanges("count-zero", "the count is 0 beside keys",
			func(_ *rangeRequest, a *rangeResponse) { a.Count = 0 }),
		onRanges("count-negative", "the count is negative", func(_ *rangeRequest, a *rangeResponse) {
			a.Count = -1
		}),
		onRanges("count-huge", "the count is the largest number",
			func(_ *rangeRequest, a *rangeResponse) {
				a.Count = math.MaxInt64
			}),
		onRanges("more-without-keys", "more keys are announced and none is sent",
			func(_ *rangeRequest, a *rangeResponse) { a.Kvs, a.More = nil, true }),
		onRanges("fewer-than-count", "half of the keys are missing beside the right count",
			func(_ *rangeRequest, a *rangeResponse) { a.Kvs = a.Kvs[:len(a.Kvs)/2] }),
		onRanges("none-of-count", "all keys are missing beside the right count",
			func(_ *rangeRequest, a *rangeResponse) { a.Kvs = nil }),
		onRanges("foreign-keys", "keys from outside the range are sent",
			func(_ *rangeRequest, a *rangeResponse) {
				a.Kvs = append(a.Kvs, kvOf("/zzz/foreign", a.Kvs), kvOf("x", a.Kvs))
				a.Count += 2
			}),
		onRanges("foreign-keys-only", "all keys are from outside the range",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.Key = append([]byte("/other"), kv.Key...)
				}
			}),
		onRanges("empty-keys", "keys without a name are sent", func(_ *rangeRequest, a *rangeResponse) {
			for _, kv := range a.Kvs {
				kv.Key = nil
			}
		}),
		onRanges("duplicate-keys", "each key is sent twice", func(_ *rangeRequest, a *rangeResponse) {
			a.Kvs = append(a.Kvs, a.Kvs...)
			a.Count *= 2
		}),
		onRanges("unsorted-keys", "the keys are not in order", func(_ *rangeRequest, a *rangeResponse) {
			for i, j := 0, len(a.Kvs)-1; i < j; i, j = i+1, j-1 {
				a.Kvs[i], a.Kvs[j] = a.Kvs[j], a.Kvs[i]
			}
		}),
		onRanges("limit-ignored", "more keys are sent than were asked for",
			func(r *rangeRequest, a *rangeResponse) {
				for int64(len(a.Kvs)) <= r.Limit && r.Limit <= 20_000 && r.Limit > 0 {
					a.Kvs = append(a.Kvs, kvOf(fmt.Sprintf("%sworker-%d", r.Key, 1_000_000+len(a.Kvs)), a.Kvs))
				}
				a.Count = int64(len(a.Kvs))
			}),
		onRanges("revisions-of-the-future", "keys were written after the answer",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.ModRevision += 1_000_000
				}
			}),
		onRanges("revisions-zero", "keys were written at revision 0",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.ModRevision, kv.CreateRevision, kv.Version = 0, 0, 0
				}
			}),
		onRanges("revisions-negative", "keys were written at negative revisions",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.ModRevision, kv.CreateRevision = math.MinInt64, math.MinInt64
				}
			}),
		onRanges("revisions-huge", "keys were written at the largest revision",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.ModRevision = math.MaxInt64
				}
			}),
		onRanges("created-after-written", "keys were created after they were written",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.CreateRevision = kv.ModRevision + 1
				}
			}),
		onRanges("empty-values", "the keys have no values", func(_ *rangeRequest, a *rangeResponse) {
			for _, kv := range a.Kvs {
				kv.Value = nil
			}
		}),
		onRanges("garbage-values", "the values are no records", func(_ *rangeRequest, a *rangeResponse) {
			for _, kv := range a.Kvs {
				kv.Value = []byte("\xff\x00{[\u202e")
			}
		}),
		onRanges("other-leases", "the keys have leases that were never granted",
			func(_ *rangeRequest, a *rangeResponse) {
				for _, kv := range a.Kvs {
					kv.Lease = math.MinInt64
				}
			}),
		onRanges("nothing", "there is no key at all", func(_ *rangeRequest, a *rangeResponse) {
			a.Kvs, a.Count, a.More = nil, 0, false
		}),
		onRanges("same-page-for-ever", "each page is the first one, and there are more",
			func(r *rangeRequest, a *rangeResponse) {
				if len(a.Kvs) == 0 {
					a.Kvs = []*mvccpb.KeyValue{kvOf("/ServiceDiscovery/DefaultAlluxioCluster/worker-3", nil)}
				}
				a.Kvs[0].Key = []byte(strings.TrimSuffix(string(r.Key), "\x00"))
				a.Kvs, a.More = a.Kvs[:1], true
			}),
		onRanges("pages-for-ever", "there are more pages, whose keys advance, without end",
			func(r *rangeRequest, a *rangeResponse) {
				mu.Lock()
				defer mu.Unlock()
				prefix := string(r.Key[:strings.LastIndex(string(r.Key), "/")+1])
				limit := max(1, min(r.Limit, 1000))
				a.Kvs = nil
				for range limit {
					pages++
					a.Kvs = append(a.Kvs, kvOf(fmt.Sprintf("%sz%012d", prefix, pages), nil))
				}
				a.More = true
			}),
	}
	return all
}

// --- headers -------------------------------------------------------------------------------------

type withHeader interface {
	GetHeader() *etcdserverpb.ResponseHeader
}

func onHeaders(name, what string, change func(c *call, h *etcdserverpb.ResponseHeader)) *mode {
	return &mode{
		name:   "header/" + name,
		what:   what,
		alone:  true,
		beside: true,
		distort: func(c *call, answer any) (any, error) {
			if with, ok := answer.(withHeader); ok && with.GetHeader() != nil {
				change(c, with.GetHeader())
			}
			return answer, nil
		},
		watch: func(w *watchStream, answer *watchResponse) ([]*watchResponse, error) {
			change(&call{e: w.e, method: "Watch"}, answer.Header)
			return []*etcdserverpb.WatchResponse{answer}, nil
		},
	}
}

func headers() []*mode {
	type header = etcdserverpb.ResponseHeader
	var mu sync.Mutex
	var turn int64
	none := &mode{
		name:   "header/none",
		what:   "no answer has a header",
		alone:  true,
		beside: true,
		distort: func(_ *call, answer any) (any, error) {
			switch answer := answer.(type) {
			case *etcdserverpb.RangeResponse:
				answer.Header = nil
			case *etcdserverpb.TxnResponse:
				answer.Header = nil
			case *etcdserverpb.LeaseGrantResponse:
				answer.Header = nil
			case *etcdserverpb.LeaseRevokeResponse:
				answer.Header = nil
			case *etcdserverpb.StatusResponse:
				answer.Header = nil
			}
			return answer, nil
		},
		watch: func(_ *watchStream, answer *watchResponse) ([]*watchResponse, error) {
			answer.Header = nil
			return []*etcdserverpb.WatchResponse{answer}, nil
		},
	}
	return []*mode{
		none,
		onHeaders("revision-zero", "every answer is of revision 0",
			func(_ *call, h *header) { h.Revision = 0 }),
		onHeaders("revision-negative", "every answer is of a negative revision",
			func(_ *call, h *header) { h.Revision = -h.Revision }),
		onHeaders("revision-huge", "every answer is of the largest revision",
			func(_ *call, h *header) { h.Revision = math.MaxInt64 }),
		onHeaders("revision-behind", "every answer is of an older revision",
			func(_ *call, h *header) { h.Revision = max(1, h.Revision-5) }),
		onHeaders("revision-ahead", "every answer is of a later revision",
			func(_ *call, h *header) { h.Revision += 1000 }),
		onHeaders("revision-to-and-fro", "revisions go forward and back", func(_ *call, h *header) {
			mu.Lock()
			defer mu.Unlock()
			turn++
			h.Revision = max(1, h.Revision+turn%3*10-10)
		}),
		onHeaders("cluster-zero", "the cluster id is 0", func(_ *call, h *header) { h.ClusterId = 0 }),
		onHeaders("cluster-other", "the cluster id is another one",
			func(_ *call, h *header) { h.ClusterId = 77 }),
		onHeaders("cluster-to-and-fro", "the cluster id changes with each answer",
			func(_ *call, h *header) {
				mu.Lock()
				defer mu.Unlock()
				turn++
				h.ClusterId += uint64(turn % 2)
			}),
		onHeaders("member-zero", "the member id is 0", func(_ *call, h *header) { h.MemberId = 0 }),
		onHeaders("member-to-and-fro", "the member id changes with each answer",
			func(_ *call, h *header) {
				mu.Lock()
				defer mu.Unlock()
				turn++
				h.MemberId += uint64(turn)
			}),
		onHeaders("term-back", "the terms of raft go back", func(_ *call, h *header) {
			mu.Lock()
			defer mu.Unlock()
			turn++
			h.RaftTerm = uint64(1_000_000 - turn)
		}),
		onHeaders("term-huge", "the term of raft is the largest number",
			func(_ *call, h *header) { h.RaftTerm = math.MaxUint64 }),
	}
}

// --- transactions --------------------------------------------------------------------------------

func txns() []*mode {
	type txnResponse = etcdserverpb.TxnResponse
	newMode := func(name, what string, change func(*txnResponse)) *mode {
		return &mode{
			name:   "txn/" + name,
			what:   what,
			alone:  true,
			beside: true,
			distort: func(_ *call, answer any) (any, error) {
				if txn, ok := answer.(*txnResponse); ok {
					change(txn)
				}
				return answer, nil
			},
		}
	}
	op := func(response *etcdserverpb.ResponseOp) func(*txnResponse) {
		return func(a *txnResponse) {
			for i := range a.Responses {
				a.Responses[i] = response
			}
		}
	}
	return []*mode{
		newMode("no-responses", "no operation is answered", func(a *txnResponse) { a.Responses = nil }),
		newMode("one-response-less", "the last operation is not answered", func(a *txnResponse) {
			a.Responses = a.Responses[:max(0, len(a.Responses)-1)]
		}),
		newMode("one-response-more", "one operation is answered twice", func(a *txnResponse) {
			if len(a.Responses) != 0 {
				a.Responses = append(a.Responses, a.Responses[0])
			}
		}),
		newMode("empty-responses", "the answers of the operations are empty",
			op(&etcdserverpb.ResponseOp{})),
		newMode("other-responses", "every operation is answered like a put", op(&etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponsePut{ResponsePut: &etcdserverpb.PutResponse{}},
		})),
		newMode("responses-swapped", "the answers of the operations are in another order",
			func(a *txnResponse) {
				for i, j := 0, len(a.Responses)-1; i < j; i, j = i+1, j-1 {
					a.Responses[i], a.Responses[j] = a.Responses[j], a.Responses[i]
				}
			}),
		newMode("never-succeeded", "no comparison holds, it says",
			func(a *txnResponse) { a.Succeeded = false }),
		newMode("nested", "every operation is answered like a transaction", op(&etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponseTxn{ResponseTxn: &etcdserverpb.TxnResponse{}},
		})),
	}
}

// --- watches -------------------------------------------------------------------------------------

type watchResponse = etcdserverpb.WatchResponse
type watchHook = func(*watchStream, *watchResponse) ([]*watchResponse, error)

func onWatches(name, what string, watch watchHook) *mode {
	return &mode{name: "watch/" + name, what: what, alone: true, beside: true, watch: watch}
}

// Returns a mode that changes the events of continuing watches.
func onEvents(name, what string, watch watchHook) *mode {
	return &mode{
		name:             "event/" + name,
		what:             what,
		alone:            true,
		beside:           true,
		keepsConnections: true,
		watch: func(w *watchStream, a *watchResponse) ([]*watchResponse, error) {
			if len(a.Events) == 0 {
				return []*watchResponse{a}, nil
			}
			return watch(w, a)
		},
	}
}

func as(answers ...*watchResponse) ([]*watchResponse, error) { return answers, nil }

// Passes the first message with events of one type, and changes it.
func once(kind mvccpb.Event_EventType, change watchHook) watchHook {
	var mu sync.Mutex
	done := map[*watchStream]bool{}
	return func(w *watchStream, a *watchResponse) ([]*watchResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		if done[w] || a.Events[0].Type != kind {
			return as(a)
		}
		done[w] = true
		return change(w, a)
	}
}

func watches() []*mode {
	created := func(change watchHook) watchHook {
		return func(w *watchStream, a *watchResponse) ([]*watchResponse, error) {
			if a.Created {
				return change(w, a)
			}
			return as(a)
		}
	}
	canceled := func(w *watchStream, a *watchResponse, reason string) *watchResponse {
		return &watchResponse{Header: a.Header, WatchId: a.WatchId, Canceled: true, CancelReason: reason}
	}
	cancels := func(reason string) watchHook {
		return created(func(w *watchStream, a *watchResponse) ([]*watchResponse, error) {
			return as(a, canceled(w, a, reason))
		})
	}
	drops := func(*watchStream, *watchResponse) ([]*watchResponse, error) { return nil, nil }
	repeats := func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) { return as(a, a) }
	changes := func(change func(*mvccpb.Event)) watchHook {
		return func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
			for _, event := range a.Events {
				change(event)
			}
			return as(a)
		}
	}
	holds := func(w *watchStream, a *watchResponse) ([]*watchResponse, error) {
		if len(w.held) == 0 {
			w.heldAt = time.Now()
		}
		w.held = append(w.held, a)
		return nil, nil
	}
	releases := func(after time.Duration, reversed bool) func(*watchStream) error {
		return func(w *watchStream) error {
			if len(w.held) == 0 || time.Since(w.heldAt) < after {
				return nil
			}
			held := w.held
			w.held = nil
			for i := range held {
				if reversed {
					i = len(held) - 1 - i
				}
				if err := w.stream.Send(held[i]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	// Sends a message ten times a second for each watch.
	sends := func(message func(w *watchStream, id int64) *watchResponse) func(*watchStream) error {
		return func(w *watchStream) error {
			for _, watcher := range w.watchers {
				answer := message(w, watcher.id)
				w.s.mu.Lock()
				answer.Header = w.e.header(w.s)
				w.s.mu.Unlock()
				if err := w.stream.Send(answer); err != nil {
					return err
				}
			}
			return nil
		}
	}
	event := func(key string, revision int64) *mvccpb.Event {
		return &mvccpb.Event{Kv: &mvccpb.KeyValue{
			Key: []byte(key), Value: []byte("x"),
			CreateRevision: revision, ModRevision: revision, Version: 1,
		}}
	}

	delayed := onEvents("delayed", "events come 3 s late", holds)
	delayed.tick = releases(3*time.Second, false)
	reordered := onEvents("reordered", "events of half a second come in reverse order", holds)
	reordered.tick = releases(500*time.Millisecond, true)
	stalled := onWatches("stalls", "the watches open and send nothing more",
		func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
			if a.Created {
				return as(a)
			}
			return nil, nil
		})
	endless := onWatches("fragments-for-ever", "one message comes in fragments without end",
		func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) { return as(a) })
	endless.tick = sends(func(w *watchStream, id int64) *watchResponse {
		w.mark++
		key := fmt.Sprintf("%sworker-%d", w.watchers[0].request.Key, 5_000_000+w.mark)
		return &watchResponse{WatchId: id, Fragment: true,
			Events: []*mvccpb.Event{event(key, w.s.revision+1)}}
	})
	foreign := onWatches("foreign-keys", "events of keys from outside the range come all the time",
		func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) { return as(a) })
	foreign.tick = sends(func(w *watchStream, id int64) *watchResponse {
		w.mark++
		return &watchResponse{WatchId: id, Events: []*mvccpb.Event{event("/zzz/foreign", w.s.revision)}}
	})
	noise := onWatches("empty-messages", "messages without events come all the time",
		func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) { return as(a) })
	noise.tick = sends(func(_ *watchStream, id int64) *watchResponse {
		return &watchResponse{WatchId: id}
	})
	withoutKv := onWatches("events-without-keys", "events have no key and no value",
		func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) { return as(a) })
	withoutKv.tick = sends(func(_ *watchStream, id int64) *watchResponse {
		return &watchResponse{WatchId: id, Events: []*mvccpb.Event{{}}}
	})
	unknownDeletes := onWatches("deletes-of-unknown-keys", "keys are deleted that never were",
		func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) { return as(a) })
	unknownDeletes.tick = sends(func(w *watchStream, id int64) *watchResponse {
		gone := event("/ServiceDiscovery/DefaultAlluxioCluster/worker-777", w.s.revision)
		gone.Type = mvccpb.DELETE
		return &watchResponse{WatchId: id, Events: []*mvccpb.Event{gone}}
	})
	lying := onEvents("progress-lies",
		"events are held back, and the progress says that all were sent", holds)
	lying.tick = releases(6*time.Second, false)

	all := []*mode{
		onWatches("canceled-at-once", "each watch is canceled when it opens", cancels("")),
		onWatches("canceled-with-reason", "each watch is canceled, for a foreign reason",
			cancels("rate limit exceeded")),
		onWatches("canceled-for-token", "each watch is canceled for its token",
			cancels("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")),
		onWatches("canceled-for-permission", "each watch is canceled for a permission",
			cancels("rpc error: code = PermissionDenied desc = etcdserver: permission denied")),
		onWatches("canceled-as-created", "the message that opens a watch cancels it",
			created(func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				a.Canceled, a.CancelReason = true, "etcdserver: mvcc: watcher cannot be created"
				return as(a)
			})),
		onWatches("closed-at-once", "each stream ends when its watch opens",
			created(func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				return []*watchResponse{a}, errCloseStream
			})),
		onWatches("closed-before-open", "each stream ends before its watch opens",
			created(func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				return nil, errCloseStream
			})),
		onWatches("never-opens", "no watch opens", created(drops)),
		onWatches("opens-twice", "each watch opens twice", created(repeats)),
		onWatches("compacted", "each watch is said to begin before the last compaction",
			created(func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				return as(a, &watchResponse{
					Header: a.Header, WatchId: a.WatchId, Canceled: true, CompactRevision: a.Header.Revision,
				})
			})),
		onWatches("compacted-at-one", "each watch is said to begin before the first revision",
			created(func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				return as(a, &watchResponse{Header: a.Header, WatchId: a.WatchId, Canceled: true,
					CompactRevision: 1})
			})),
		onWatches("compact-revision-negative", "messages have a negative compact revision",
			func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				a.CompactRevision = -1
				return as(a)
			}),
		onWatches("other-ids", "messages are of watches that were not opened",
			func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				a.WatchId += 1000
				return as(a)
			}),
		onWatches("same-id", "all watches of a stream have one id",
			func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				a.WatchId = 0
				return as(a)
			}),
		onWatches("no-progress", "a question for the progress is not answered",
			func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				if a.WatchId == -1 {
					return nil, nil
				}
				return as(a)
			}),
		stalled, endless, foreign, noise, withoutKv, unknownDeletes,
		onEvents("lost-put", "the first new key is not told", once(mvccpb.PUT, drops)),
		onEvents("lost-delete", "the first deleted key is not told", once(mvccpb.DELETE, drops)),
		onEvents("all-lost", "no event is told", drops),
		onEvents("twice", "each event is told twice", repeats),
		delayed, reordered, lying,
		onEvents("create-revision", "put events have the wrong create revision",
			changes(func(e *mvccpb.Event) { e.Kv.CreateRevision = 1 })),
		onEvents("version", "put events have the wrong version",
			changes(func(e *mvccpb.Event) { e.Kv.Version = 99 })),
		onEvents("revision-zero", "events are of revision 0",
			changes(func(e *mvccpb.Event) { e.Kv.ModRevision = 0 })),
		onEvents("revision-old", "events are of an old revision",
			changes(func(e *mvccpb.Event) { e.Kv.ModRevision = 2 })),
		onEvents("revision-huge", "events are of the largest revision",
			changes(func(e *mvccpb.Event) { e.Kv.ModRevision = math.MaxInt64 })),
		onEvents("revision-of-the-future", "events are of a later revision than their message",
			changes(func(e *mvccpb.Event) { e.Kv.ModRevision += 100 })),
		onEvents("header-behind", "events come in messages of an earlier revision",
			func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				a.Header.Revision -= 3
				return as(a)
			}),
		onEvents("unknown-type", "events are of a type that does not exist",
			changes(func(e *mvccpb.Event) { e.Type = 7 })),
		onEvents("puts-as-deletes", "each new key is told as a deleted one",
			changes(func(e *mvccpb.Event) { e.Type = mvccpb.DELETE })),
		onEvents("other-watch", "events are told to the other watch of the stream",
			func(_ *watchStream, a *watchResponse) ([]*watchResponse, error) {
				a.WatchId = 1 - a.WatchId
				return as(a)
			}),
		onEvents("ends-the-stream", "each event ends the stream before it is sent",
			func(*watchStream, *watchResponse) ([]*watchResponse, error) {
				return nil, status.Error(codes.Unavailable, "the connection is draining")
			}),
	}
	return all
}

// --- leases --------------------------------------------------------------------------------------

type keepAliveResponse = etcdserverpb.LeaseKeepAliveResponse

func leases() []*mode {
	grants := func(name, what string, change func(*etcdserverpb.LeaseGrantResponse)) *mode {
		return &mode{
			name:   "grant/" + name,
			what:   what,
			alone:  true,
			beside: true,
			distort: func(_ *call, answer any) (any, error) {
				if grant, ok := answer.(*etcdserverpb.LeaseGrantResponse); ok {
					change(grant)
				}
				return answer, nil
			},
		}
	}
	renewals := func(name, what string, change func(*keepAliveResponse)) *mode {
		return &mode{
			name:   "renewal/" + name,
			what:   what,
			alone:  true,
			beside: true,
			keepAlive: func(a *keepAliveResponse) ([]*keepAliveResponse, error) {
				change(a)
				return []*keepAliveResponse{a}, nil
			},
		}
	}
	silent := renewals("silent", "no renewal is answered", nil)
	silent.keepAlive = func(*keepAliveResponse) ([]*keepAliveResponse, error) { return nil, nil }
	closed := renewals("closed", "the stream ends at the first renewal", nil)
	closed.keepAlive = func(*keepAliveResponse) ([]*keepAliveResponse, error) {
		return nil, errCloseStream
	}
	answeredAndClosed := renewals("answered-and-closed", "the stream ends after each renewal", nil)
	answeredAndClosed.keepAlive = func(a *keepAliveResponse) ([]*keepAliveResponse, error) {
		return []*keepAliveResponse{a}, errCloseStream
	}
	many := renewals("answered-often", "each renewal is answered a hundred times", nil)
	many.keepAlive = func(a *keepAliveResponse) ([]*keepAliveResponse, error) {
		answers := make([]*keepAliveResponse, 100)
		for i := range answers {
			answers[i] = a
		}
		return answers, nil
	}
	return []*mode{
		grants("ttl-zero", "a lease is granted for 0 s",
			func(a *etcdserverpb.LeaseGrantResponse) { a.TTL = 0 }),
		grants("ttl-one", "a lease is granted for 1 s",
			func(a *etcdserverpb.LeaseGrantResponse) { a.TTL = 1 }),
		grants("ttl-negative", "a lease is granted for a negative time",
			func(a *etcdserverpb.LeaseGrantResponse) { a.TTL = -5 }),
		grants("ttl-huge", "a lease is granted for the longest time",
			func(a *etcdserverpb.LeaseGrantResponse) { a.TTL = math.MaxInt64 }),
		grants("ttl-large", "a lease is granted for 300 years",
			func(a *etcdserverpb.LeaseGrantResponse) { a.TTL = 9_400_000_000 }),
		grants("other-id", "another lease is granted than was asked for",
			func(a *etcdserverpb.LeaseGrantResponse) { a.ID++ }),
		grants("no-id", "a lease without an id is granted",
			func(a *etcdserverpb.LeaseGrantResponse) { a.ID = 0 }),
		grants("error", "a lease is granted with the text of an error",
			func(a *etcdserverpb.LeaseGrantResponse) { a.Error = "etcdserver: lease storage is full" }),
		renewals("ttl-zero", "each lease is said to be gone", func(a *keepAliveResponse) { a.TTL = 0 }),
		renewals("ttl-negative", "leases are renewed for a negative time",
			func(a *keepAliveResponse) { a.TTL = -1 }),
		renewals("ttl-huge", "leases are renewed for the longest time",
			func(a *keepAliveResponse) { a.TTL = math.MaxInt64 }),
		renewals("other-lease", "another lease is renewed", func(a *keepAliveResponse) { a.ID++ }),
		silent, closed, answeredAndClosed, many,
	}
}

// --- users ---------------------------------------------------------------------------------------

func auths() []*mode {
	newMode := func(name, what string, beside bool) *mode {
		return &mode{name: "auth/" + name, what: what, alone: true, beside: beside, auth: true}
	}
	refusing := func(name string, which func(*call) bool, err error, beside bool) *mode {
		m := newMode(name, err.Error(), beside)
		m.refuse = refuses(which, err)
		return m
	}
	isAuthenticate := isOf("Authenticate")
	isOther := func(c *call) bool { return !isAuthenticate(c) }
	refused := newMode("token-always-refused", "no token is accepted", false)
	refused.tokenUses = 1
	once := newMode("token-for-one-request", "a token is good for one request", false)
	once.tokenUses = 2
	few := newMode("token-for-three-requests", "a token is good for three requests", false)
	few.tokenUses = 4
	empty := newMode("empty-token", "the token is empty", false)
	long := newMode("huge-token", "the token is of 100 kB", false)
	odd := newMode("odd-token", "the token has characters that no header may have", false)
	token := func(m *mode, text string) *mode {
		m.distort = func(_ *call, answer any) (any, error) {
			if a, ok := answer.(*etcdserverpb.AuthenticateResponse); ok {
				a.Token = text
			}
			return answer, nil
		}
		return m
	}
	return []*mode{
		refused, once, few,
		token(empty, ""), token(long, strings.Repeat("t", 100_000)), token(odd, "a\r\nb\u00ff"),
		refusing("wrong-password", isAuthenticate, rpctypes.ErrGRPCAuthFailed, false),
		refusing("store-is-old", isOther, rpctypes.ErrGRPCAuthOldRevision, false),
		refusing("user-is-empty", isOther, rpctypes.ErrGRPCUserEmpty, false),
		refusing("not-enabled", isAuthenticate, rpctypes.ErrGRPCAuthNotEnabled, false),
		refusing("unavailable", isAuthenticate,
			status.Error(codes.Unavailable, "no healthy upstream"), true),
		refusing("unauthenticated", isAuthenticate,
			status.Error(codes.Unauthenticated, "Jwt is missing"), true),
	}
}

// --- what is no etcd -----------------------------------------------------------------------------

func transports() []*mode {
	overTCP := func(name, what string, conn func(net.Conn)) *mode {
		return &mode{name: "transport/" + name, what: what, alone: true, beside: true, conn: conn}
	}
	overHTTP := func(name, what string, handler http.HandlerFunc) *mode {
		return &mode{name: "transport/" + name, what: what, alone: true, beside: true, web: handler}
	}
	limited := &mode{
		name:   "transport/four-megabytes",
		what:   "a proxy drops messages of more than 4 kB, which stand for the usual 4 MB",
		alone:  true,
		beside: true,
		distort: func(_ *call, answer any) (any, error) {
			const most = 4 << 10
			if sized, ok := answer.(interface{ Size() int }); ok && sized.Size() > most {
				text := fmt.Sprintf("grpc: received message larger than max (%d vs. %d)", sized.Size(), most)
				return nil, status.Error(codes.ResourceExhausted, text)
			}
			return answer, nil
		},
	}
	return []*mode{
		overTCP("http1", "a web server of old refuses HTTP/2",
			says("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")),
		overTCP("http1-page", "a web server of old sends a page",
			says("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>")),
		overTCP("closes", "each connection is closed at once", closes),
		overTCP("resets", "each connection is reset at once", resets),
		overTCP("silent", "each connection is accepted and never answered", swallows),
		overTCP("garbage", "random bytes are sent", says(strings.Repeat("\x00\xff\x13garbage", 1000))),
		overTCP("banner", "another protocol is spoken", says("SSH-2.0-OpenSSH_9.2p1\r\n")),
		overTCP("tls", "TLS refuses the plain text", says("\x15\x03\x01\x00\x02\x02\x0a")),
		overTCP("goaway-at-once", "each connection ends before its first request",
			frames(goesAwayAtOnce)),
		overTCP("goaway-at-requests", "each connection ends with its first request",
			frames(goesAwayAtRequests)),
		overTCP("too-many-pings", "each connection ends for too many pings", frames(wantsCalm)),
		overTCP("refused-streams", "each stream is refused",
			frames(refusesStreams(http2.ErrCodeRefusedStream))),
		overTCP("internal-errors", "each stream ends with an internal error",
			frames(refusesStreams(http2.ErrCodeInternal))),
		overTCP("no-streams", "no stream may be opened", frames(allowsNoStreams)),
		overTCP("too-large-frames", "frames are larger than agreed", frames(sendsTooLargeFrames)),
		overTCP("closes-at-requests", "each connection is closed at its first request",
			frames(closesAtRequests)),
		overHTTP("huge-headers", "answers have 10 MB of headers", hugeHeaders),
		overHTTP("http-404", "there is no such page", page(404, "text/html", "<h1>Not Found</h1>")),
		overHTTP("http-503", "a balancer has no server",
			page(503, "text/plain", "upstream connect error")),
		overHTTP("http-301", "the page has moved", page(301, "text/html", "moved")),
		overHTTP("wrong-content-type", "a page is sent with status 200",
			page(200, "text/html", "<html></html>")),
		overHTTP("no-status", "answers end without a status", body("", false)),
		overHTTP("no-message", "answers have a status and no message", body("", true)),
		overHTTP("garbage-message", "messages are no protobuf",
			body("\x00\x00\x00\x00\x04\xff\xff\xff\xff", true)),
		overHTTP("empty-message", "messages are empty", body("\x00\x00\x00\x00\x00", true)),
		overHTTP("compressed", "messages are said to be compressed", body("\x01\x00\x00\x00\x01x", true)),
		overHTTP("huge-message", "a message is said to have 4 GB", body("\x00\xff\xff\xff\xff", true)),
		overHTTP("truncated-message", "messages end early", body("\x00\x00\x00\x01\x00x", false)),
		overHTTP("drips", "a message comes byte by byte", drips),
		overHTTP("trailers-only", "answers are trailers without a status", trailersOnly()),
		overHTTP("unknown-status", "the status is none of gRPC's", trailersOnly("Grpc-Status", "99")),
		overHTTP("ok-without-answer", "the status is 0 and nothing else is sent",
			trailersOnly("Grpc-Status", "0")),
		overHTTP("long-text", "the text of the status is of 8 kB",
			trailersOnly("Grpc-Status", "14", "Grpc-Message", strings.Repeat("long ", 1600))),
		overHTTP("control-characters", "the text of the status has control characters",
			trailersOnly("Grpc-Status", "14", "Grpc-Message", "%1b[31mred%0d%0aWARN forged line%e2%80%ae")),
		limited,
	}
}

// --- versions ------------------------------------------------------------------------------------

func versions() []*mode {
	says := func(name, version string) *mode {
		return &mode{
			name:   "version/" + name,
			what:   "the version is " + name,
			alone:  true,
			beside: true,
			distort: func(_ *call, answer any) (any, error) {
				if a, ok := answer.(*etcdserverpb.StatusResponse); ok {
					a.Version = version
				}
				return answer, nil
			},
		}
	}
	refused := &mode{
		name: "version/refused", what: "the status is not told", alone: true, beside: true,
		refuse: refuses(isOf("Status"), status.Error(codes.Unimplemented, "unknown method Status")),
	}
	return []*mode{
		says("empty", ""),
		says("garbage", "\u202egarbage\x1b[31m"),
		says("huge", "99999999999999999999.99999999999999999999.1"),
		says("long", strings.Repeat("3.", 50_000)),
		says("old", "3.3.27"),
		says("new", "9.9.9"),
		refused,
	}
}

// --- clusters ------------------------------------------------------------------------------------

// The other cluster has other workers, and more revisions.
func fillOther(s *store) {
	for number := 900; number < 930; number++ {
		for _, prefix := range []string{
			"/DHT/DefaultAlluxioCluster/AUTHORIZED/", "/ServiceDiscovery/DefaultAlluxioCluster/",
		} {
			w := &write{s: s}
			_, err := w.put(&etcdserverpb.PutRequest{
				Key: []byte(fmt.Sprintf("%sworker-%d", prefix, number)),
				Value: []byte(fmt.Sprintf(`{"Identity":{"version":0,"identifier":"%016x"},`+
					`"WorkerNetAddress":{"Host":"other%d","RpcPort":29999},"State":"AUTHORIZED",`+
					`"GenerationNumber":-1,"ServiceEntityName":"worker-%d"}`, number, number, number)),
			})
			check(err)
			w.commit()
		}
	}
}

func clusters() []*mode {
	var mu sync.Mutex
	var turn int
	newMode := func(name, what string, choose func(*endpoint, string) *store) *mode {
		return &mode{name: "cluster/" + name, what: what, alone: true, beside: true, store: choose}
	}
	return []*mode{
		newMode("other", "the address leads to another cluster", func(e *endpoint, _ string) *store {
			return e.other
		}),
		newMode("by-connection", "every other connection leads to another cluster",
			func(e *endpoint, from string) *store {
				mu.Lock()
				defer mu.Unlock()
				side, known := e.sides[from]
				if !known {
					side = len(e.sides)%2 == 0
					e.sides[from] = side
				}
				if side {
					return e.other
				}
				return e.world.store
			}),
		newMode("by-request", "every other request leads to another cluster",
			func(e *endpoint, _ string) *store {
				mu.Lock()
				defer mu.Unlock()
				turn++
				if turn%2 == 0 {
					return e.other
				}
				return e.world.store
			}),
		newMode("empty", "the address leads to an empty cluster", func(e *endpoint, _ string) *store {
			return e.empty
		}),
	}
}
