package main

import (
	"encoding/json"
	"io"
	"time"

	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/cmd/internal/explain"
	"wg-multihome/cmd/internal/status"
)

// jsonVersion is that of the JSON's form. It grows when a field goes, or means
// something else; not when one comes.
const jsonVersion = 1

// What commands print with --json. A schema of each is in doc/schema.
type (
	statusJSON struct {
		Version int `json:"version"`
		status.Status
	}

	// changeJSON is a line of `status --follow`, but for the first.
	changeJSON struct {
		Version int       `json:"version"`
		Time    time.Time `json:"time"`
		status.Change
	}

	planJSON struct {
		Version  int      `json:"version"`
		Steps    []string `json:"steps"`
		Notes    []string `json:"notes"`
		Problems []string `json:"problems"`
		Errors   []string `json:"errors"`
	}

	explainJSON struct {
		Version      int                   `json:"version"`
		Explanations []explain.Explanation `json:"explanations"`
	}

	doctorJSON struct {
		Version  int              `json:"version"`
		Findings []doctor.Finding `json:"findings"`
	}
)

// writeJSON writes an object over several lines.
func writeJSON(w io.Writer, object any) error {
	out := encoder(w)
	out.SetIndent("", "\t")
	return out.Encode(object)
}

// writeLine writes an object in one line.
func writeLine(w io.Writer, object any) error { return encoder(w).Encode(object) }

// encoder leaves < and > as they are: for a terminal, not for a page of HTML.
func encoder(w io.Writer) *json.Encoder {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return out
}
