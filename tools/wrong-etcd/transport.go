package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// Returns the modes of servers that are not etcd, and of proxies before etcd.

// Answers everything with these bytes, and closes the connection.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = conn.Read(make([]byte, 4096))
		_, _ = conn.Write([]byte(text))
	}
}

func closes(conn net.Conn) { conn.Close() }

func resets(conn net.Conn) {
	if tcp, ok := conn.(*tracked).Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// Reads everything and never answers.
func swallows(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	conn.Close()
}

// Speaks HTTP/2 without a library.
func frames(serve func(*http2.Framer)) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(conn, conn)
		if framer.WriteSettings() != nil {
			return
		}
		serve(framer)
	}
}

// Waits for a request and returns its stream, or 0 if the client has gone.
func request(framer *http2.Framer) uint32 {
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return 0
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = framer.WritePing(true, frame.Data)
			}
		case *http2.HeadersFrame:
			return frame.StreamID
		}
	}
}

func goesAwayAtOnce(framer *http2.Framer) {
	_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
}

func goesAwayAtRequests(framer *http2.Framer) {
	if request(framer) != 0 {
		_ = framer.WriteGoAway(0, http2.ErrCodeNo, []byte("max_age"))
	}
}

func wantsCalm(framer *http2.Framer) {
	if request(framer) != 0 {
		_ = framer.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
	}
}

func refusesStreams(code http2.ErrCode) func(*http2.Framer) {
	return func(framer *http2.Framer) {
		for {
			stream := request(framer)
			if stream == 0 {
				return
			}
			_ = framer.WriteRSTStream(stream, code)
		}
	}
}

func allowsNoStreams(framer *http2.Framer) {
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	for request(framer) != 0 {
	}
}

func sendsTooLargeFrames(framer *http2.Framer) {
	if stream := request(framer); stream != 0 {
		_ = framer.WriteData(stream, false, make([]byte, 1<<20))
	}
}

func closesAtRequests(framer *http2.Framer) {
	request(framer)
}

// Answers over HTTP, without gRPC.
func page(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Answers only with gRPC headers.
func trailersOnly(headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(http.StatusOK)
	}
}

// Answers with a message of these bytes, and optionally with a status of gRPC.
func body(bytes string, withStatus bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if withStatus {
			w.Header().Set("Trailer", "Grpc-Status")
		}
		_, _ = io.WriteString(w, bytes)
		if withStatus {
			w.Header().Set("Grpc-Status", "0")
		}
	}
}

func hugeHeaders(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	for _, letter := range strings.Split("abcdefghij", "") {
		w.Header().Set("X-"+letter, strings.Repeat(letter, 1<<20))
	}
	w.WriteHeader(http.StatusOK)
}

// Slowly sends a body without an end.
func drips(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	_, _ = io.WriteString(w, "\x00\x00\xff\xff\xff")
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		if _, err := io.WriteString(w, "x"); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-ticks.C:
		case <-r.Context().Done():
			return
		}
	}
}
