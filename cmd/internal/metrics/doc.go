// Package metrics says how the host is, and what watch has done, in Prometheus's
// text: https://prometheus.io/docs/instrumenting/exposition_formats/. Of keys it has
// peers' public ones alone.
package metrics
