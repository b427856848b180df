// Command wrong-etcd is an etcd that answers wrongly on request, for the tests.
//
// It keeps everything in memory: keys with their history, revisions, leases, watches, users. All
// answers are correct until a mode falsifies the answers of one kind, at one endpoint or at all.
//
//	wrong-etcd --modes                           prints the modes, one JSON object a line
//	wrong-etcd --version 3.6.16 --endpoints 2    serves
//
// A server prints one line of JSON with the addresses of its endpoints, and of one more endpoint
// that always answers correctly. It then reads commands from standard input and answers each with one line
// of JSON:
//
//	set MODE N...    falsifies the answers of these endpoints, given by number, by a mode
//	clear            makes the answers of all endpoints correct again
//	drop N...        ends all connections of these endpoints
//	counts N         prints the requests per RPC of this endpoint
//
// It ends with its standard input.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	list := flag.Bool("modes", false, "print the modes and exit")
	version := flag.String("version", "3.6.16", "the version of etcd to report")
	count := flag.Int("endpoints", 1, "how many endpoints share the store")
	withAuth := flag.Bool("auth", false,
		"demand tokens of the user `user` with the password `password`")
	flag.Parse()
	if *list {
		for _, m := range modes() {
			reply(map[string]any{
				"name": m.name, "what": m.what, "alone": m.alone, "beside": m.beside, "auth": m.auth,
			})
		}
		return
	}

	w := &world{
		version: *version,
		auth:    *withAuth,
		store:   newStore(0x1111),
		other:   newStore(0x2222),
		empty:   newStore(0x3333),
		tokens:  map[string]int{},
	}
	fillOther(w.other)
	// The last endpoint always answers correctly, and demands no token.
	right := &world{version: w.version, store: w.store, tokens: map[string]int{}}
	var endpoints []*endpoint
	var addresses []string
	for member := range *count {
		e, err := w.listen(uint64(member) + 1)
		check(err)
		endpoints = append(endpoints, e)
		addresses = append(addresses, e.Addr().String())
	}
	judge, err := right.listen(99)
	check(err)
	reply(map[string]any{"endpoints": addresses, "right": judge.Addr().String()})

	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		words := strings.Fields(commands.Text())
		if len(words) == 0 {
			continue
		}
		answer, err := run(words, endpoints)
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		reply(answer)
	}
	check(commands.Err())
}

func run(words []string, endpoints []*endpoint) (any, error) {
	done := map[string]any{"done": true}
	switch words[0] {
	case "set":
		if len(words) < 2 {
			return nil, fmt.Errorf("set which mode?")
		}
		chosen, err := choose(words[2:], endpoints)
		if err != nil {
			return nil, err
		}
		for _, e := range chosen {
			// Each endpoint has a mode of its own, because modes have state.
			m := find(words[1])
			if m == nil {
				return nil, fmt.Errorf("no such mode: %s", words[1])
			}
			e.mode.Store(m)
			if !m.keepsConnections {
				e.drop()
			}
		}
		return done, nil
	case "clear":
		for _, e := range endpoints {
			before := e.mode.Swap(&mode{})
			if before.conn != nil || before.web != nil || before.store != nil {
				e.drop()
			}
		}
		return done, nil
	case "drop":
		chosen, err := choose(words[1:], endpoints)
		if err != nil {
			return nil, err
		}
		for _, e := range chosen {
			e.drop()
		}
		return done, nil
	case "counts":
		chosen, err := choose(words[1:], endpoints)
		if err != nil || len(chosen) != 1 {
			return nil, fmt.Errorf("counts of which endpoint? %v", err)
		}
		e := chosen[0]
		e.mu.Lock()
		defer e.mu.Unlock()
		counts := map[string]int64{}
		for what, count := range e.counts {
			counts[what] = count
		}
		return counts, nil
	}
	return nil, fmt.Errorf("unknown command: %s", words[0])
}

func choose(words []string, endpoints []*endpoint) ([]*endpoint, error) {
	var chosen []*endpoint
	for _, word := range words {
		number, err := strconv.Atoi(word)
		if err != nil || number < 0 || number >= len(endpoints) {
			return nil, fmt.Errorf("no such endpoint: %s", word)
		}
		chosen = append(chosen, endpoints[number])
	}
	return chosen, nil
}

func reply(answer any) {
	line, err := json.Marshal(answer)
	check(err)
	fmt.Println(string(line))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
