package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/tools/txtar"

	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/cmd/internal/explain"
	"wg-multihome/cmd/internal/status"
)

// described are the types of what commands print, by their schemas' names.
var described = map[string]reflect.Type{
	"status": reflect.TypeFor[statusJSON](), "follow": reflect.TypeFor[changeJSON](), "plan": reflect.TypeFor[planJSON](),
	"explain": reflect.TypeFor[explainJSON](), "doctor": reflect.TypeFor[doctorJSON](),
}

// schemaText returns a schema, as it is and as an object.
func schemaText(t *testing.T, name string) (text []byte, object map[string]any) {
	t.Helper()
	text, err := docs.ReadFile(path.Join(schemasDir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return text, object
}

// TestSchemasHaveAllFields: those of the Go types, and no others; what is not left
// out when it is empty is required.
func TestSchemasHaveAllFields(t *testing.T) {
	if got := slices.Sorted(maps.Keys(described)); !slices.Equal(got, schemas()) {
		t.Fatalf("schemas %v, types %v", schemas(), got)
	}
	for name, of := range described {
		_, schema := schemaText(t, name)
		if schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
			t.Errorf("%s is of %v", name, schema["$schema"])
		}
		defs, _ := schema["$defs"].(map[string]any)
		describes(t, name, defs, schema, of)
	}
}

// describes compares a schema with a type, and those of its fields.
func describes(t *testing.T, at string, defs, schema map[string]any, of reflect.Type) {
	t.Helper()
	if ref, is := schema["$ref"].(string); is {
		schema, _ = defs[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	kind := schema["type"]
	switch {
	case of.Kind() == reflect.Pointer:
		describes(t, at, defs, schema, of.Elem())
	case of == reflect.TypeFor[time.Time]():
		if kind != "string" || schema["format"] != "date-time" {
			t.Errorf("%s: %v is no time", at, schema)
		}
	case of.Kind() == reflect.Struct:
		describesFields(t, at, defs, schema, of)
	case of.Kind() == reflect.Slice:
		items, _ := schema["items"].(map[string]any)
		if kind != "array" {
			t.Errorf("%s: %v is no list", at, schema)
		}
		describes(t, at+"[]", defs, items, of.Elem())
	case kind == nil: // a constant, or some
		allowed := append(values(schema["enum"]), values(schema["const"])...)
		if len(allowed) == 0 {
			t.Errorf("%s may be anything", at)
		}
		for _, value := range allowed {
			if want := reflect.TypeOf(value).Kind(); want != of.Kind() && !(want == reflect.Float64 && of.Kind() == reflect.Int) {
				t.Errorf("%s: %v is no %s", at, value, of)
			}
		}
	default:
		if want := kinds[of.Kind()]; kind != want {
			t.Errorf("%s is %q in the schema, want %q", at, kind, want)
		}
	}
}

// kinds are what JSON calls Go's.
var kinds = map[reflect.Kind]any{
	reflect.String: "string", reflect.Bool: "boolean", reflect.Map: "object", reflect.Int: "integer", reflect.Int64: "integer",
	reflect.Uint8: "integer", reflect.Uint16: "integer", reflect.Uint32: "integer", reflect.Uint64: "integer",
}

// values are those of a list, or a value alone.
func values(v any) []any {
	if list, is := v.([]any); is || v == nil {
		return list
	}
	return []any{v}
}

func describesFields(t *testing.T, at string, defs, schema map[string]any, of reflect.Type) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	if schema["type"] != "object" || schema["additionalProperties"] != false {
		t.Errorf("%s: an object that may have other fields", at)
	}
	required := values(schema["required"])
	fields := map[string]bool{}
	for _, f := range reflect.VisibleFields(of) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() {
			continue // its fields are among those of the type; or JSON has it not
		}
		fields[name] = true
		property, is := properties[name].(map[string]any)
		if !is {
			t.Errorf("%s.%s is not in the schema", at, name)
			continue
		}
		if slices.Contains(required, any(name)) == (options == "omitempty") {
			t.Errorf("%s.%s: options %q, and required %v", at, name, options, options == "omitempty")
		}
		describes(t, at+"."+name, defs, property, f.Type)
	}
	for name := range properties {
		if !fields[name] {
			t.Errorf("%s.%s is in the schema alone", at, name)
		}
	}
}

// valid holds JSON against a schema.
func valid(t *testing.T, name string, text []byte) error {
	t.Helper()
	schema, _ := schemaText(t, name)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(name, document); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile(name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	answer, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	return compiled.Validate(answer)
}

// answers are what commands print, from the golden texts of what they found.
func answers(t *testing.T) map[string][]byte {
	t.Helper()
	read := func(file string) []byte {
		text, err := os.ReadFile("../internal/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	into := func(text []byte, v any) {
		if err := json.Unmarshal(text, v); err != nil {
			t.Fatal(err)
		}
	}
	var stands status.Status
	into(read("status/testdata/status.json"), &stands)
	then, age := time.Unix(1_800_000_000, 0).UTC(), int64(7)
	stands.Try = "until then"
	stands.Tunnels = append(stands.Tunnels, status.Tunnel{
		Device: "wg0", Uplink: "wan2", Unread: true, Wanted: "0x1005", Full: true,
		Peers: []status.Peer{{Key: "abcdefgh", Endpoint: "192.0.2.1:1", Handshake: &then, Age: &age}},
	})
	var packet explain.Explanation
	archive := txtar.Parse(read("explain/testdata/explanations.txtar"))
	into(archive.Files[len(archive.Files)-1].Data, &packet)
	packet.Verdict.Unless, packet.Packet.Port = []string{"x"}, 7
	after := stands
	after.Uplinks, after.Problems = nil, []string{"x"}
	texts := map[string][]byte{}
	for name, object := range map[string]any{
		"status":  statusJSON{jsonVersion, stands},
		"follow":  changeJSON{jsonVersion, then, status.Changes(stands, after)[0]},
		"plan":    planJSON{jsonVersion, []string{"+ rule 4 32754 fwmark 0x2005 unreachable"}, []string{}, []string{}, []string{}},
		"explain": explainJSON{jsonVersion, []explain.Explanation{packet}},
		"doctor":  doctorJSON{jsonVersion, []doctor.Finding{{Code: "WGM001", Severity: doctor.Unknown}}},
	} {
		var b bytes.Buffer
		if err := writeJSON(&b, object); err != nil {
			t.Fatal(err)
		}
		texts[name] = b.Bytes()
	}
	return texts
}

// TestAnswersAreAsTheirSchemasSay: and without a field that is required, with one
// that is not known, or with one of another kind, they are not.
func TestAnswersAreAsTheirSchemasSay(t *testing.T) {
	for name, text := range answers(t) {
		if err := valid(t, name, text); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
		_, schema := schemaText(t, name)
		spoilt := func(what string, spoil func(object map[string]any)) {
			var object map[string]any
			if err := json.Unmarshal(text, &object); err != nil {
				t.Fatal(err)
			}
			spoil(object)
			again, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			if valid(t, name, again) == nil {
				t.Errorf("%s %s is valid", name, what)
			}
		}
		spoilt("with another field", func(o map[string]any) { o["x"] = 1 })
		for _, field := range values(schema["required"]) {
			spoilt("without "+field.(string), func(o map[string]any) { delete(o, field.(string)) })
			spoilt("with null as "+field.(string), func(o map[string]any) { o[field.(string)] = nil })
		}
	}
}
