// The operations of Go's etcd client that the benchmarks compare the library with.
//
// Reads one command per line from standard input. Answers with one line of durations in nanoseconds:
//
//	get N KEY             N linearizable reads of one key
//	event N KEY           N puts, each until its event reaches a watch of another client
//	join N KEY            N grants of a lease with a put of the key, each until the watch of
//	                      another client has the key; a second line for the revocations of the
//	                      leases, each until the watch has the deletion
//	range N PREFIX...     N reads of all keys of the prefixes, one request for each prefix
//
// There are two clients with separate connections, as in two processes.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

func main() {
	log.SetFlags(0)
	writer, reader := connect(os.Args[1]), connect(os.Args[1])
	defer writer.Close()
	defer reader.Close()

	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		words := strings.Fields(commands.Text())
		count, err := strconv.Atoi(words[1])
		check(err)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		for _, durations := range run(ctx, writer, reader, words[0], count, words[2:]) {
			fmt.Println(strings.Trim(fmt.Sprint(durations), "[]"))
		}
		cancel()
	}
	check(commands.Err())
}

func connect(endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 10 * time.Second,
	})
	check(err)
	return client
}

// The lines of the answer.
func run(ctx context.Context, writer, reader *clientv3.Client, command string, count int,
	keys []string) [][]int64 {
	key := keys[0]
	switch command {
	case "get":
		return [][]int64{repeat(count, func(int) {
			_, err := reader.Get(ctx, key)
			check(err)
		})}
	case "range":
		return [][]int64{repeat(count, func(int) {
			for _, prefix := range keys {
				_, err := reader.Get(ctx, prefix, clientv3.WithPrefix())
				check(err)
			}
		})}
	case "event":
		events := watch(ctx, reader, key)
		return [][]int64{repeat(count, func(i int) {
			_, err := writer.Put(ctx, key, strconv.Itoa(i))
			check(err)
			next(events, clientv3.EventTypePut)
		})}
	case "join":
		events := watch(ctx, reader, key)
		joins, leaves := make([]int64, count), make([]int64, count)
		for i := range count {
			start := time.Now()
			lease, err := writer.Grant(ctx, 60)
			check(err)
			_, err = writer.Put(ctx, key, strconv.Itoa(i), clientv3.WithLease(lease.ID))
			check(err)
			next(events, clientv3.EventTypePut)
			joins[i] = time.Since(start).Nanoseconds()

			start = time.Now()
			_, err = writer.Revoke(ctx, lease.ID)
			check(err)
			next(events, clientv3.EventTypeDelete)
			leaves[i] = time.Since(start).Nanoseconds()
		}
		return [][]int64{joins, leaves}
	}
	log.Fatalf("unknown command %q", command)
	return nil
}

func repeat(count int, action func(int)) []int64 {
	durations := make([]int64, count)
	for i := range durations {
		start := time.Now()
		action(i)
		durations[i] = time.Since(start).Nanoseconds()
	}
	return durations
}

// Returns once etcd has the watch.
func watch(ctx context.Context, client *clientv3.Client, key string) clientv3.WatchChan {
	events := client.Watch(ctx, key, clientv3.WithCreatedNotify())
	created := <-events
	check(created.Err())
	return events
}

func next(events clientv3.WatchChan, kind any) {
	answer := <-events
	check(answer.Err())
	if len(answer.Events) != 1 || answer.Events[0].Type != kind {
		log.Fatalf("expected one event of type %v, got %v", kind, answer.Events)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
