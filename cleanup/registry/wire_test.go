package registry

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"

	"graceful/cleanup"
)

// FuzzRequest delivers bytes in chunks, as a socket does. Each line is a valid request, or the client gets an error.
// The size of the chunks does not change the lines.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"graceful":1,"do":"list"}`+"\n"), uint8(1))
	f.Add([]byte(`{"graceful":1,"do":"cancel","id":3}`+"\n"+`{"graceful":1,"do":"defer","shell":"x"}`+"\n"), uint8(7))
	f.Add([]byte(`{"graceful":1,"do":"defer","command":["rm",{"base64":"/w=="}],"dir":"/","env":[],"name":"n",`+
		`"timeout_ms":5,"when_exits":7,"start":9,"key":"k"}`+"\n"), uint8(200))
	f.Add([]byte(`{"graceful":2}`+"\n{"), uint8(3))
	f.Add([]byte("\n\n\x00"), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, size uint8) {
		r := lineReader{
			source: chunks{bytes.NewReader(data), int(size) + 1}, reserve: func(int) bool { return true },
		}
		lines := bytes.SplitAfter(data, []byte("\n"))
		for n := 0; ; n++ {
			line, err := r.line()
			if n == len(lines)-1 {
				if whole := len(lines[n]) == 0; whole != (err == io.EOF) || !whole && err != errTruncated {
					t.Fatalf("after the last line: %v", err)
				}
				return
			}
			if err != nil || string(line)+"\n" != string(lines[n]) {
				t.Fatalf("line %d is %q, %v, want %q", n, line, err, lines[n])
			}
			request, err := decode(line)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n") && !bytes.ContainsAny(line, `\`) {
					t.Fatalf("%q", err)
				}
				continue
			}
			again, err := decode(bytes.TrimSuffix(encode(request), []byte("\n")))
			if err != nil || !reflect.DeepEqual(request, again) {
				t.Fatalf("%+v became %+v, %v", request, again, err)
			}
			if request.Do != Defer {
				continue
			}
			e := request.Entry()
			if len(e.Command.Args) == 0 || e.Command.Args[0] == "" || e.Command.Limit < 0 {
				t.Fatalf("%q became %+v", line, e)
			}
		}
	})
}

// chunks is a reader that returns at most size bytes from each read.
type chunks struct {
	from io.Reader
	size int
}

func (c chunks) Read(b []byte) (int, error) { return c.from.Read(b[:min(len(b), c.size)]) }

func TestDecode_invalidRequest(t *testing.T) {
	for line, want := range map[string]string{
		``:                             "reading the request",
		`{`:                            "reading the request",
		`[]`:                           "reading the request",
		`{"do":"list"}`:                "version 0, and this graceful knows 1",
		`{"graceful":2,"colour":"x"}`:  "version 2, and this graceful knows 1",
		`{"graceful":1}`:               `no request ""`,
		`{"graceful":1,"do":"lst"}`:    `no request "lst"`,
		`{"graceful":1,"do":"list"}{}`: "data follows it",
		`{"graceful":1,"do":"defer","command":["x"],"nmae":"x"}`:                            `unknown field "nmae"`,
		`{"graceful":1,"do":"cancel"}`:                                                      "a number from 1 on",
		`{"graceful":1,"do":"defer"}`:                                                       "either a command or shell",
		`{"graceful":1,"do":"defer","command":["x"],"shell":"x"}`:                           "either a command or shell",
		`{"graceful":1,"do":"defer","command":[""]}`:                                        "empty",
		`{"graceful":1,"do":"defer","shell":" "}`:                                           "empty",
		`{"graceful":1,"do":"defer","shell":"x","dir":"."}`:                                 "slash",
		`{"graceful":1,"do":"defer","shell":"x","timeout_ms":-1}`:                           "no time",
		`{"graceful":1,"do":"defer","shell":"x","timeout_ms":9223372036854775807}`:          "no time",
		`{"graceful":1,"do":"defer","shell":"x","when_exits":-1}`:                           "not a pid",
		`{"graceful":1,"do":"defer","shell":"x","env":["A=\u0000"]}`:                        "NUL",
		`{"graceful":1,"do":"defer","shell":"x","name":"` + strings.Repeat("x", 300) + `"}`: "256 bytes",
		"{\"graceful\":1,\"do\":\"defer\",\"shell\":\"\xff\"}":                              "UTF-8",
	} {
		if _, err := decode([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", line, err, want)
		}
	}
}

func TestDecode_bytesThatAreNotUTF8(t *testing.T) {
	r := Request{
		Version: version, Do: Defer, Command: cleanup.Texts([]string{"rm", "\xff\n"}), Dir: "/\xfe",
		Env: cleanup.Texts([]string{"A=\x80"}),
	}
	got, err := decode(bytes.TrimSuffix(encode(r), []byte("\n")))
	if e := got.Entry(); err != nil || e.Command.Args[1] != "\xff\n" || e.Dir != "/\xfe" || e.Env[0] != "A=\x80" {
		t.Errorf("%+v, %v", e, err)
	}
}

// The JSON form of a text that was cut is at most as long as requested. The form of an empty text has 2 bytes.
func TestCut(t *testing.T) {
	for text, want := range map[cleanup.Text]map[int]cleanup.Text{
		"abcdefghijklmnopqrstuvwxyz": {2: "", 3: "a", 16: "abcdefghijklmn", 28: "abcdefghijklmnopqrstuvwxyz"},
		"\x01\x01\x01\x01":           {7: "", 8: "\x01", 14: "\x01\x01", 26: "\x01\x01\x01\x01"},
		"\xff\xff\xff\xff":           {8: "", 16: "", 17: "\xff\xff", 20: "\xff\xff\xff", 21: "\xff\xff\xff\xff"},
		"ä\x01\x01\x01\x01":          {3: "", 4: "ä", 8: "", 16: "ä"},
		"a\xff\xff":                  {3: "a", 4: "", 8: "a", 16: "a", 17: "a\xff\xff"},
	} {
		for size := range 40 {
			got := cut(text, size)
			isBeginning := strings.HasPrefix(string(text), string(got))
			if w, ok := want[size]; ok && got != w || !isBeginning || got.Size() > max(size, 2) {
				t.Errorf("%q cut at %d is %q, with %d bytes", text, size, got, got.Size())
			}
		}
	}
}

// A list of many long commands has a bounded size, and marks the commands that are cut.
func TestShorten(t *testing.T) {
	long := cleanup.Text(strings.Repeat("x", 100_000))
	dir := cleanup.Text(strings.Repeat("/\x01", maxDir/2))
	for n, limit := range map[int]int{1: 300_000, 50: 6 << 20, 2000: 6 << 20, 65536: sharedMemory} {
		list := make([]Listed, n)
		for i := range list {
			list[i] = Listed{ID: i, State: "pending", Text: long, Command: []cleanup.Text{"/bin/sh", "-c", long}}
			if n > 1 {
				list[i].Name, list[i].Dir = long[:maxName], dir
			}
		}
		Shorten(list)
		size, first := len(encode(Response{Commands: &list})), list[0]
		if size > limit || first.Cut != (n > 1) || len(first.Command) != 3 {
			t.Errorf("%d commands take %d bytes, cut %t", n, size, first.Cut)
		}
	}
	if list := []Listed{{Text: "a", Command: []cleanup.Text{"a"}}}; true {
		Shorten(list)
		if list[0].Cut {
			t.Error("a short command was cut")
		}
	}
}
