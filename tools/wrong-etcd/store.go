package main

import (
	"bytes"
	"sort"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// A store is the content of one etcd cluster: every version of every key, and the leases.
type store struct {
	clusterID uint64

	mu        sync.Mutex
	revision  int64
	compacted int64
	keys      map[string][]version
	// The keys of the map, sorted.
	sorted []string
	// Every change, by revision.
	log    []*mvccpb.Event
	leases map[int64]*lease
	// Closed and replaced with each change.
	changed chan struct{}
}

// A version of a key: its value from a revision on, or its absence.
type version struct {
	revision int64
	kv       *mvccpb.KeyValue // nil: deleted
}

type lease struct {
	granted int64
	expires time.Time
	keys    map[string]bool
}

func newStore(clusterID uint64) *store {
	s := &store{
		clusterID: clusterID,
		revision:  1,
		keys:      map[string][]version{},
		leases:    map[int64]*lease{},
		changed:   make(chan struct{}),
	}
	go s.expireLeases()
	return s
}

// A write collects the changes of one revision. The store is locked.
type write struct {
	s      *store
	events []*mvccpb.Event
}

func (s *store) current(key string) *mvccpb.KeyValue {
	versions := s.keys[key]
	if len(versions) == 0 {
		return nil
	}
	return versions[len(versions)-1].kv
}

func at(versions []version, revision int64) *mvccpb.KeyValue {
	after := sort.Search(len(versions), func(i int) bool { return versions[i].revision > revision })
	if after == 0 {
		return nil
	}
	return versions[after-1].kv
}

func (w *write) set(key string, kv *mvccpb.KeyValue) {
	s := w.s
	versions, known := s.keys[key]
	if !known {
		place := sort.SearchStrings(s.sorted, key)
		s.sorted = append(s.sorted, "")
		copy(s.sorted[place+1:], s.sorted[place:])
		s.sorted[place] = key
	}
	s.keys[key] = append(versions, version{s.revision + 1, kv})
}

func (w *write) put(r *etcdserverpb.PutRequest) (*etcdserverpb.PutResponse, error) {
	s := w.s
	if len(r.Key) == 0 {
		return nil, rpctypes.ErrGRPCEmptyKey
	}
	if r.Lease != 0 && s.leases[r.Lease] == nil {
		return nil, rpctypes.ErrGRPCLeaseNotFound
	}
	key := string(r.Key)
	before := s.current(key)
	kv := &mvccpb.KeyValue{
		Key:            r.Key,
		Value:          r.Value,
		Lease:          r.Lease,
		CreateRevision: s.revision + 1,
		ModRevision:    s.revision + 1,
		Version:        1,
	}
	if before != nil {
		kv.CreateRevision, kv.Version = before.CreateRevision, before.Version+1
		s.detach(before)
	}
	if r.Lease != 0 {
		s.leases[r.Lease].keys[key] = true
	}
	w.set(key, kv)
	w.events = append(w.events, &mvccpb.Event{Type: mvccpb.PUT, Kv: kv})
	answer := &etcdserverpb.PutResponse{}
	if r.PrevKv {
		answer.PrevKv = before
	}
	return answer, nil
}

func (s *store) detach(kv *mvccpb.KeyValue) {
	if lease := s.leases[kv.Lease]; lease != nil {
		delete(lease.keys, string(kv.Key))
	}
}

func (w *write) delete(key string) {
	before := w.s.current(key)
	w.s.detach(before)
	w.set(key, nil)
	gone := &mvccpb.KeyValue{Key: []byte(key), ModRevision: w.s.revision + 1}
	w.events = append(w.events, &mvccpb.Event{Type: mvccpb.DELETE, Kv: gone})
}

func (w *write) deleteRange(r *etcdserverpb.DeleteRangeRequest) *etcdserverpb.DeleteRangeResponse {
	answer := &etcdserverpb.DeleteRangeResponse{}
	for _, key := range append([]string(nil), w.s.between(r.Key, r.RangeEnd)...) {
		if before := w.s.current(key); before != nil {
			if r.PrevKv {
				answer.PrevKvs = append(answer.PrevKvs, before)
			}
			w.delete(key)
			answer.Deleted++
		}
	}
	return answer
}

// Ends a write: its changes become the next revision.
func (w *write) commit() {
	if len(w.events) == 0 {
		return
	}
	w.s.revision++
	w.s.log = append(w.s.log, w.events...)
	close(w.s.changed)
	w.s.changed = make(chan struct{})
}

// Returns the known keys of a range, including deleted keys.
func (s *store) between(key, end []byte) []string {
	first := sort.SearchStrings(s.sorted, string(key))
	switch {
	case len(end) == 0:
		if first < len(s.sorted) && s.sorted[first] == string(key) {
			return s.sorted[first : first+1]
		}
		return nil
	case len(end) == 1 && end[0] == 0:
		return s.sorted[first:]
	}
	last := sort.SearchStrings(s.sorted, string(end))
	return s.sorted[first:max(first, last)]
}

func within(key, start, end []byte) bool {
	if len(end) == 0 {
		return bytes.Equal(key, start)
	}
	return bytes.Compare(key, start) >= 0 &&
		(len(end) == 1 && end[0] == 0 || bytes.Compare(key, end) < 0)
}

func (s *store) get(r *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	revision := r.Revision
	switch {
	case revision > s.revision:
		return nil, rpctypes.ErrGRPCFutureRev
	case revision > 0 && revision < s.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	case revision <= 0:
		revision = s.revision
	}
	answer := &etcdserverpb.RangeResponse{}
	for _, key := range s.between(r.Key, r.RangeEnd) {
		kv := at(s.keys[key], revision)
		if kv == nil {
			continue
		}
		answer.Count++
		wanted := kv.ModRevision >= r.MinModRevision &&
			(r.MaxModRevision == 0 || kv.ModRevision <= r.MaxModRevision) &&
			kv.CreateRevision >= r.MinCreateRevision &&
			(r.MaxCreateRevision == 0 || kv.CreateRevision <= r.MaxCreateRevision)
		if !wanted || r.CountOnly {
			continue
		}
		copied := *kv
		if r.KeysOnly {
			copied.Value = nil
		}
		answer.Kvs = append(answer.Kvs, &copied)
	}
	order(answer.Kvs, r.SortTarget, r.SortOrder)
	if r.Limit > 0 && int64(len(answer.Kvs)) > r.Limit {
		answer.Kvs, answer.More = answer.Kvs[:r.Limit], true
	}
	return answer, nil
}

func order(kvs []*mvccpb.KeyValue, by etcdserverpb.RangeRequest_SortTarget,
	order etcdserverpb.RangeRequest_SortOrder) {
	if order == etcdserverpb.RangeRequest_NONE {
		return
	}
	less := func(a, b *mvccpb.KeyValue) bool {
		switch by {
		case etcdserverpb.RangeRequest_VERSION:
			return a.Version < b.Version
		case etcdserverpb.RangeRequest_CREATE:
			return a.CreateRevision < b.CreateRevision
		case etcdserverpb.RangeRequest_MOD:
			return a.ModRevision < b.ModRevision
		case etcdserverpb.RangeRequest_VALUE:
			return bytes.Compare(a.Value, b.Value) < 0
		}
		return bytes.Compare(a.Key, b.Key) < 0
	}
	sort.SliceStable(kvs, func(i, j int) bool {
		if order == etcdserverpb.RangeRequest_DESCEND {
			i, j = j, i
		}
		return less(kvs[i], kvs[j])
	})
}

func (s *store) holds(c *etcdserverpb.Compare) bool {
	keys := s.between(c.Key, c.RangeEnd)
	if len(c.RangeEnd) == 0 && len(keys) == 0 {
		keys = []string{string(c.Key)}
	}
	for _, key := range keys {
		kv := s.current(key)
		if kv == nil {
			if len(c.RangeEnd) != 0 {
				continue
			}
			if c.Target == etcdserverpb.Compare_VALUE {
				return false
			}
			kv = &mvccpb.KeyValue{}
		}
		var order int
		switch target := c.TargetUnion.(type) {
		case *etcdserverpb.Compare_Version:
			order = compare(kv.Version, target.Version)
		case *etcdserverpb.Compare_CreateRevision:
			order = compare(kv.CreateRevision, target.CreateRevision)
		case *etcdserverpb.Compare_ModRevision:
			order = compare(kv.ModRevision, target.ModRevision)
		case *etcdserverpb.Compare_Lease:
			order = compare(kv.Lease, target.Lease)
		case *etcdserverpb.Compare_Value:
			order = bytes.Compare(kv.Value, target.Value)
		}
		holds := map[etcdserverpb.Compare_CompareResult]bool{
			etcdserverpb.Compare_EQUAL:     order == 0,
			etcdserverpb.Compare_NOT_EQUAL: order != 0,
			etcdserverpb.Compare_GREATER:   order > 0,
			etcdserverpb.Compare_LESS:      order < 0,
		}
		if !holds[c.Result] {
			return false
		}
	}
	return true
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (w *write) txn(r *etcdserverpb.TxnRequest) (*etcdserverpb.TxnResponse, error) {
	answer := &etcdserverpb.TxnResponse{Succeeded: true}
	for _, compare := range r.Compare {
		answer.Succeeded = answer.Succeeded && w.s.holds(compare)
	}
	ops := r.Success
	if !answer.Succeeded {
		ops = r.Failure
	}
	for _, op := range ops {
		response, err := w.op(op)
		if err != nil {
			return nil, err
		}
		answer.Responses = append(answer.Responses, response)
	}
	return answer, nil
}

func (w *write) op(op *etcdserverpb.RequestOp) (*etcdserverpb.ResponseOp, error) {
	switch request := op.Request.(type) {
	case *etcdserverpb.RequestOp_RequestRange:
		answer, err := w.s.get(request.RequestRange)
		return &etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponseRange{ResponseRange: answer},
		}, err
	case *etcdserverpb.RequestOp_RequestPut:
		answer, err := w.put(request.RequestPut)
		return &etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponsePut{ResponsePut: answer},
		}, err
	case *etcdserverpb.RequestOp_RequestDeleteRange:
		answer := w.deleteRange(request.RequestDeleteRange)
		return &etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: answer},
		}, nil
	case *etcdserverpb.RequestOp_RequestTxn:
		answer, err := w.txn(request.RequestTxn)
		return &etcdserverpb.ResponseOp{
			Response: &etcdserverpb.ResponseOp_ResponseTxn{ResponseTxn: answer},
		}, err
	}
	return nil, rpctypes.ErrGRPCKeyNotFound
}

// Returns whether every put of a transaction names an existing lease. etcd refuses before it
// carries out anything.
func (s *store) leasesExist(r *etcdserverpb.TxnRequest) bool {
	for _, op := range append(append([]*etcdserverpb.RequestOp(nil), r.Success...), r.Failure...) {
		if put := op.GetRequestPut(); put != nil && put.Lease != 0 && s.leases[put.Lease] == nil {
			return false
		}
		if txn := op.GetRequestTxn(); txn != nil && !s.leasesExist(txn) {
			return false
		}
	}
	return true
}

func (s *store) compact(revision int64) error {
	switch {
	case revision > s.revision:
		return rpctypes.ErrGRPCFutureRev
	case revision <= s.compacted:
		return rpctypes.ErrGRPCCompacted
	}
	s.compacted = revision
	return nil
}

func (s *store) grant(id, ttl int64) error {
	if s.leases[id] != nil {
		return rpctypes.ErrGRPCLeaseExist
	}
	s.leases[id] = &lease{granted: ttl, expires: time.Now().Add(seconds(ttl)), keys: map[string]bool{}}
	return nil
}

func seconds(n int64) time.Duration {
	return time.Duration(n) * time.Second
}

func (s *store) revoke(id int64) error {
	lease := s.leases[id]
	if lease == nil {
		return rpctypes.ErrGRPCLeaseNotFound
	}
	w := &write{s: s}
	keys := make([]string, 0, len(lease.keys))
	for key := range lease.keys {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		w.delete(key)
	}
	delete(s.leases, id)
	w.commit()
	return nil
}

// Returns the TTL, or 0 if there is no such lease.
func (s *store) renew(id int64) int64 {
	lease := s.leases[id]
	if lease == nil {
		return 0
	}
	lease.expires = time.Now().Add(seconds(lease.granted))
	return lease.granted
}

func (s *store) expireLeases() {
	for range time.Tick(100 * time.Millisecond) {
		s.mu.Lock()
		for id, lease := range s.leases {
			if time.Now().After(lease.expires) {
				_ = s.revoke(id)
			}
		}
		s.mu.Unlock()
	}
}
