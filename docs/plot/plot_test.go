package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var measured = results{
	Date: "2026-01-02", Machine: "a machine", Load: "0.1", Rounds: 3,
	Missing: []string{"catatonit (not found)"}, Table: []string{"| peer |", "|------|"},
	Figures: []figure{
		{Name: "launch", Unit: "µs", Peers: []summary{
			{Peer: "graceful, guard on", P10: 900, Median: 1000, P90: 1200, Ratio: 2.5}, {Peer: "a<b", Median: 400, P90: 500},
		}},
		{Name: "tree kill", Size: 10, Peers: []summary{{Peer: "a", Median: 0.3}, {Peer: "b", Median: 0.4}}},
		{Name: "tree kill", Size: 1000, Peers: []summary{{Peer: "a", Median: 50}}},
		{Name: "cleanup", Size: 1, Peers: []summary{{Peer: "a", Median: 2}}},
		{Name: "cleanup", Size: 10, Peers: []summary{{Peer: "a", Median: 20}}},
	},
}

// Each plot is well-formed XML, and names each peer that was measured.
func TestDraw_namesEachPeer(t *testing.T) {
	for name, peers := range map[string][]string{
		"launch.svg":      {"graceful, guard on", "1 (2.5 ×)", "a<b"},
		"descendants.svg": {"a", "b"},
		"commands.svg":    {"a"},
	} {
		var texts []string
		decoder := xml.NewDecoder(strings.NewReader(string(measured.draw()[name])))
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(name, err)
			}
			if text, ok := token.(xml.CharData); ok {
				texts = append(texts, string(text))
			}
		}
		for _, peer := range peers {
			if !slices.Contains(texts, peer) {
				t.Errorf("%s: %q is not in %q", name, peer, texts)
			}
		}
	}
}

// The table replaces the previous table, and no other part of the page.
func TestFillPage_keepsTheText(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+beginMark+"old\n"+endMark+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := measured.fillPage(page); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(page)
	if want := "before\n" + beginMark + measured.section() + endMark + "after\n"; string(text) != want {
		t.Errorf("the page is\n%s, want\n%s", text, want)
	}
	if err := os.WriteFile(page, []byte("no marks\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := measured.fillPage(page); err == nil {
		t.Error("a page without marks was changed")
	}
}
