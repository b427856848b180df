package main

import (
	"context"
	"fmt"
	"math/rand"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

const (
	user         = "user"
	password     = "password"
	fragmentSize = 512 << 10
)

// A world is an etcd cluster whose endpoints share one store.
type world struct {
	version string
	auth    bool
	store   *store
	// Other clusters, for modes that confuse them with this cluster.
	other, empty *store

	mu     sync.Mutex
	tokens map[string]int
}

// An endpoint is one member of the cluster, with its own address.
type endpoint struct {
	*world
	memberID uint64
	mode     atomic.Pointer[mode]
	grpc     *listener
	web      *listener
	net.Listener

	mu     sync.Mutex
	conns  map[net.Conn]bool
	counts map[string]int64
	// The connections that a mode distinguishes.
	sides map[string]bool
}

// A listener returns connections that another listener has accepted.
type listener struct {
	addr  net.Addr
	conns chan net.Conn
}

func (l *listener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l *listener) Addr() net.Addr            { return l.addr }
func (l *listener) Close() error              { return nil }

// A tracked connection is removed when it is closed.
type tracked struct {
	net.Conn
	e *endpoint
}

func (t *tracked) Close() error {
	t.e.mu.Lock()
	delete(t.e.conns, t)
	t.e.mu.Unlock()
	return t.Conn.Close()
}

func (w *world) listen(memberID uint64) (*endpoint, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		world:    w,
		memberID: memberID,
		Listener: l,
		grpc:     &listener{l.Addr(), make(chan net.Conn)},
		web:      &listener{l.Addr(), make(chan net.Conn)},
		conns:    map[net.Conn]bool{},
		counts:   map[string]int64{},
		sides:    map[string]bool{},
	}
	e.mode.Store(&mode{})
	server := grpc.NewServer(
		grpc.UnaryInterceptor(e.unary),
		grpc.StreamInterceptor(e.stream),
		grpc.MaxRecvMsgSize(64<<20),
		grpc.MaxSendMsgSize(1<<30),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
	)
	etcdserverpb.RegisterKVServer(server, e)
	etcdserverpb.RegisterWatchServer(server, e)
	etcdserverpb.RegisterLeaseServer(server, e)
	etcdserverpb.RegisterMaintenanceServer(server, &maintenance{e: e})
	etcdserverpb.RegisterClusterServer(server, &cluster{e: e})
	etcdserverpb.RegisterAuthServer(server, &auth{e: e})
	go func() { _ = server.Serve(e.grpc) }()

	web := &http.Server{Handler: http.HandlerFunc(e.answerWeb), Protocols: new(http.Protocols)}
	web.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = web.Serve(e.web) }()
	go e.accept()
	return e, nil
}

func (e *endpoint) accept() {
	for {
		conn, err := e.Accept()
		if err != nil {
			return
		}
		e.count("connections")
		conn = &tracked{conn, e}
		e.mu.Lock()
		e.conns[conn] = true
		e.mu.Unlock()
		switch m := e.mode.Load(); {
		case m.conn != nil:
			go m.conn(conn)
		case m.web != nil:
			e.web.conns <- conn
		default:
			e.grpc.conns <- conn
		}
	}
}

// Ends every connection of the endpoint.
func (e *endpoint) drop() {
	e.mu.Lock()
	conns := make([]net.Conn, 0, len(e.conns))
	for conn := range e.conns {
		conns = append(conns, conn)
	}
	e.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
}

func (e *endpoint) answerWeb(w http.ResponseWriter, r *http.Request) {
	e.count(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])
	if handler := e.mode.Load().web; handler != nil {
		handler(w, r)
	}
}

func (e *endpoint) count(what string) {
	e.mu.Lock()
	e.counts[what]++
	e.mu.Unlock()
}

// A call is one request, or one stream of requests.
type call struct {
	e       *endpoint
	method  string
	request any
}

func (e *endpoint) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	c := &call{e, info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:], request}
	e.count(c.method)
	m := e.mode.Load()
	if m.refuse != nil {
		if err := m.refuse(c); err != nil {
			return nil, err
		}
	}
	if err := e.authorized(ctx, c.method); err != nil {
		return nil, err
	}
	answer, err := handler(ctx, request)
	if m.distort != nil && err == nil {
		return m.distort(c, answer)
	}
	return answer, err
}

func (e *endpoint) stream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	c := &call{e, info.FullMethod[strings.LastIndex(info.FullMethod, "/")+1:], nil}
	e.count(c.method)
	if m := e.mode.Load(); m.refuse != nil {
		if err := m.refuse(c); err != nil {
			return err
		}
	}
	if err := e.authorized(stream.Context(), c.method); err != nil {
		return err
	}
	return handler(server, stream)
}

func (e *endpoint) authorized(ctx context.Context, method string) error {
	if !e.auth || method == "Authenticate" || method == "Status" || method == "MemberList" {
		return nil
	}
	tokens := metadata.ValueFromIncomingContext(ctx, rpctypes.TokenFieldNameGRPC)
	if len(tokens) == 0 {
		return rpctypes.ErrGRPCUserEmpty
	}
	e.world.mu.Lock()
	defer e.world.mu.Unlock()
	left, known := e.tokens[tokens[0]]
	if !known || left == 0 {
		return rpctypes.ErrGRPCInvalidAuthToken
	}
	if left > 0 {
		e.tokens[tokens[0]] = left - 1
	}
	return nil
}

// Returns the store for this request.
func (e *endpoint) storeOf(ctx context.Context) *store {
	if choose := e.mode.Load().store; choose != nil {
		from := ""
		if p, ok := peer.FromContext(ctx); ok {
			from = p.Addr.String()
		}
		return choose(e, from)
	}
	return e.store
}

func (e *endpoint) header(s *store) *etcdserverpb.ResponseHeader {
	return &etcdserverpb.ResponseHeader{
		ClusterId: s.clusterID,
		MemberId:  e.memberID,
		Revision:  s.revision,
		RaftTerm:  2,
	}
}

func (e *endpoint) Range(
	ctx context.Context, r *etcdserverpb.RangeRequest,
) (*etcdserverpb.RangeResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, err := s.get(r)
	if err != nil {
		return nil, err
	}
	answer.Header = e.header(s)
	return answer, nil
}

func (e *endpoint) Put(
	ctx context.Context, r *etcdserverpb.PutRequest,
) (*etcdserverpb.PutResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &write{s: s}
	answer, err := w.put(r)
	if err != nil {
		return nil, err
	}
	w.commit()
	answer.Header = e.header(s)
	return answer, nil
}

func (e *endpoint) DeleteRange(
	ctx context.Context, r *etcdserverpb.DeleteRangeRequest,
) (*etcdserverpb.DeleteRangeResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &write{s: s}
	answer := w.deleteRange(r)
	w.commit()
	answer.Header = e.header(s)
	return answer, nil
}

func (e *endpoint) Txn(
	ctx context.Context, r *etcdserverpb.TxnRequest,
) (*etcdserverpb.TxnResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.leasesExist(r) {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	w := &write{s: s}
	answer, err := w.txn(r)
	if err != nil {
		return nil, err
	}
	w.commit()
	answer.Header = e.header(s)
	return answer, nil
}

func (e *endpoint) Compact(
	ctx context.Context, r *etcdserverpb.CompactionRequest,
) (*etcdserverpb.CompactionResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.compact(r.Revision); err != nil {
		return nil, err
	}
	return &etcdserverpb.CompactionResponse{Header: e.header(s)}, nil
}

func (e *endpoint) LeaseGrant(
	ctx context.Context, r *etcdserverpb.LeaseGrantRequest,
) (*etcdserverpb.LeaseGrantResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.ID
	if id == 0 {
		id = rand.Int63()
	}
	if err := s.grant(id, r.TTL); err != nil {
		return nil, err
	}
	return &etcdserverpb.LeaseGrantResponse{Header: e.header(s), ID: id, TTL: r.TTL}, nil
}

func (e *endpoint) LeaseRevoke(
	ctx context.Context, r *etcdserverpb.LeaseRevokeRequest,
) (*etcdserverpb.LeaseRevokeResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.revoke(r.ID); err != nil {
		return nil, err
	}
	return &etcdserverpb.LeaseRevokeResponse{Header: e.header(s)}, nil
}

func (e *endpoint) LeaseTimeToLive(
	ctx context.Context, r *etcdserverpb.LeaseTimeToLiveRequest,
) (*etcdserverpb.LeaseTimeToLiveResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &etcdserverpb.LeaseTimeToLiveResponse{Header: e.header(s), ID: r.ID, TTL: -1}
	if lease := s.leases[r.ID]; lease != nil {
		answer.TTL = int64(time.Until(lease.expires).Seconds())
		answer.GrantedTTL = lease.granted
		if r.Keys {
			for key := range lease.keys {
				answer.Keys = append(answer.Keys, []byte(key))
			}
		}
	}
	return answer, nil
}

func (e *endpoint) LeaseLeases(
	ctx context.Context, _ *etcdserverpb.LeaseLeasesRequest,
) (*etcdserverpb.LeaseLeasesResponse, error) {
	s := e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &etcdserverpb.LeaseLeasesResponse{Header: e.header(s)}
	for id := range s.leases {
		answer.Leases = append(answer.Leases, &etcdserverpb.LeaseStatus{ID: id})
	}
	return answer, nil
}

func (e *endpoint) LeaseKeepAlive(stream etcdserverpb.Lease_LeaseKeepAliveServer) error {
	s := e.storeOf(stream.Context())
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		e.count("KeepAliveRequest")
		s.mu.Lock()
		answer := &etcdserverpb.LeaseKeepAliveResponse{Header: e.header(s), ID: request.ID,
			TTL: s.renew(request.ID)}
		s.mu.Unlock()
		answers, err := []*etcdserverpb.LeaseKeepAliveResponse{answer}, error(nil)
		if m := e.mode.Load(); m.keepAlive != nil {
			answers, err = m.keepAlive(answer)
		}
		for _, answer := range answers {
			if err := stream.Send(answer); err != nil {
				return err
			}
		}
		if err != nil {
			if err == errCloseStream {
				return nil
			}
			return err
		}
	}
}

// A mode returns this to end a stream without an error.
var errCloseStream = fmt.Errorf("the stream is closed")

type watcher struct {
	id       int64
	request  *etcdserverpb.WatchCreateRequest
	next     int64
	canceled bool
}

// A watch stream, and the state that a mode has for it.
type watchStream struct {
	e        *endpoint
	s        *store
	stream   etcdserverpb.Watch_WatchServer
	watchers []*watcher
	nextID   int64
	// The messages that a mode holds back, and since when.
	held   []*etcdserverpb.WatchResponse
	heldAt time.Time
	mark   int64
}

func (e *endpoint) Watch(stream etcdserverpb.Watch_WatchServer) error {
	w := &watchStream{e: e, s: e.storeOf(stream.Context()), stream: stream}
	requests := make(chan *etcdserverpb.WatchRequest)
	go func() {
		defer close(requests)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- request:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	err := w.run(requests)
	if err == errCloseStream {
		return nil
	}
	return err
}

func (w *watchStream) run(requests <-chan *etcdserverpb.WatchRequest) error {
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		changed, err := w.catchUp()
		if err != nil {
			return err
		}
		select {
		case request, open := <-requests:
			if !open {
				return nil
			}
			if err := w.handle(request); err != nil {
				return err
			}
		case <-changed:
		case <-ticks.C:
			if m := w.e.mode.Load(); m.tick != nil {
				if err := m.tick(w); err != nil {
					return err
				}
			} else if len(w.held) != 0 {
				// The mode that held them back has ended.
				held := w.held
				w.held = nil
				for _, answer := range held {
					if err := w.stream.Send(answer); err != nil {
						return err
					}
				}
			}
		case <-w.stream.Context().Done():
			return nil
		}
	}
}

func (w *watchStream) handle(request *etcdserverpb.WatchRequest) error {
	switch request := request.RequestUnion.(type) {
	case *etcdserverpb.WatchRequest_CreateRequest:
		return w.create(request.CreateRequest)
	case *etcdserverpb.WatchRequest_CancelRequest:
		for _, watcher := range w.watchers {
			if watcher.id == request.CancelRequest.WatchId && !watcher.canceled {
				watcher.canceled = true
				return w.send(&etcdserverpb.WatchResponse{WatchId: watcher.id, Canceled: true})
			}
		}
	case *etcdserverpb.WatchRequest_ProgressRequest:
		w.e.count("ProgressRequest")
		// Sent after everything up to the revision of its header.
		if _, err := w.catchUp(); err != nil {
			return err
		}
		return w.send(&etcdserverpb.WatchResponse{WatchId: -1})
	}
	return nil
}

func (w *watchStream) create(request *etcdserverpb.WatchCreateRequest) error {
	w.e.count("WatchCreateRequest")
	w.s.mu.Lock()
	revision, compacted := w.s.revision, w.s.compacted
	w.s.mu.Unlock()
	watcher := &watcher{id: w.nextID, request: request, next: request.StartRevision}
	w.nextID++
	if watcher.next == 0 {
		watcher.next = revision + 1
	}
	if err := w.send(&etcdserverpb.WatchResponse{WatchId: watcher.id, Created: true}); err != nil {
		return err
	}
	if watcher.next <= compacted {
		return w.send(&etcdserverpb.WatchResponse{
			WatchId: watcher.id, Canceled: true, CompactRevision: compacted,
		})
	}
	w.watchers = append(w.watchers, watcher)
	return nil
}

// Sends what the watchers have not received. Returns a channel that the next change closes.
func (w *watchStream) catchUp() (<-chan struct{}, error) {
	w.s.mu.Lock()
	changed, revision, log := w.s.changed, w.s.revision, w.s.log
	w.s.mu.Unlock()
	for _, watcher := range w.watchers {
		if watcher.canceled {
			continue
		}
		var events []*mvccpb.Event
		for place := len(log) - 1; place >= 0 && log[place].Kv.ModRevision >= watcher.next; place-- {
			if within(log[place].Kv.Key, watcher.request.Key, watcher.request.RangeEnd) {
				copied := *log[place].Kv
				events = append(events, &mvccpb.Event{Type: log[place].Type, Kv: &copied})
			}
		}
		watcher.next = max(watcher.next, revision+1)
		for i, j := 0, len(events)-1; i < j; i, j = i+1, j-1 {
			events[i], events[j] = events[j], events[i]
		}
		for len(events) != 0 {
			size, count := 0, 0
			for count < len(events) && (size < fragmentSize || !watcher.request.Fragment) {
				size += events[count].Size()
				count++
			}
			answer := &etcdserverpb.WatchResponse{
				WatchId: watcher.id, Events: events[:count], Fragment: count < len(events),
			}
			if err := w.sendAt(answer, revision); err != nil {
				return nil, err
			}
			events = events[count:]
		}
	}
	return changed, nil
}

func (w *watchStream) send(answer *etcdserverpb.WatchResponse) error {
	w.s.mu.Lock()
	revision := w.s.revision
	w.s.mu.Unlock()
	// An answer must not be newer than the messages that the watchers have received.
	for _, watcher := range w.watchers {
		if !watcher.canceled && watcher.next <= revision {
			revision = watcher.next - 1
		}
	}
	return w.sendAt(answer, revision)
}

func (w *watchStream) sendAt(answer *etcdserverpb.WatchResponse, revision int64) error {
	answer.Header = w.e.header(w.s)
	answer.Header.Revision = revision
	answers, err := []*etcdserverpb.WatchResponse{answer}, error(nil)
	if m := w.e.mode.Load(); m.watch != nil {
		answers, err = m.watch(w, answer)
	}
	for _, answer := range answers {
		if err := w.stream.Send(answer); err != nil {
			return err
		}
	}
	return err
}

type maintenance struct {
	etcdserverpb.UnimplementedMaintenanceServer
	e *endpoint
}

func (m maintenance) Status(
	ctx context.Context, _ *etcdserverpb.StatusRequest,
) (*etcdserverpb.StatusResponse, error) {
	s := m.e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return &etcdserverpb.StatusResponse{
		Header:           m.e.header(s),
		Version:          m.e.version,
		DbSize:           20480,
		DbSizeInUse:      20480,
		Leader:           1,
		RaftIndex:        uint64(s.revision),
		RaftAppliedIndex: uint64(s.revision),
		RaftTerm:         2,
	}, nil
}

func (m maintenance) Alarm(
	ctx context.Context, _ *etcdserverpb.AlarmRequest,
) (*etcdserverpb.AlarmResponse, error) {
	s := m.e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return &etcdserverpb.AlarmResponse{Header: m.e.header(s)}, nil
}

type cluster struct {
	etcdserverpb.UnimplementedClusterServer
	e *endpoint
}

func (c cluster) MemberList(
	ctx context.Context, _ *etcdserverpb.MemberListRequest,
) (*etcdserverpb.MemberListResponse, error) {
	s := c.e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	url := "http://" + c.e.Addr().String()
	member := &etcdserverpb.Member{ID: c.e.memberID, Name: "wrong", ClientURLs: []string{url}}
	return &etcdserverpb.MemberListResponse{Header: c.e.header(s),
		Members: []*etcdserverpb.Member{member}}, nil
}

type auth struct {
	etcdserverpb.UnimplementedAuthServer
	e *endpoint
}

func (a auth) Authenticate(
	ctx context.Context, r *etcdserverpb.AuthenticateRequest,
) (*etcdserverpb.AuthenticateResponse, error) {
	if !a.e.auth {
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	}
	if r.Name != user || r.Password != password {
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	token := fmt.Sprintf("token.%d", rand.Int63())
	uses := a.e.mode.Load().tokenUses
	a.e.world.mu.Lock()
	a.e.tokens[token] = uses - 1
	a.e.world.mu.Unlock()
	s := a.e.storeOf(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	return &etcdserverpb.AuthenticateResponse{Header: a.e.header(s), Token: token}, nil
}
