// Checks a dashboard with Grafana's own package: it decodes the file without unknown fields, panels included, and checks the
// values that the schema restricts. Usage: grafana-schema FILE
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func check(path string) error {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	found := dashboard.Dashboard{}
	err = found.UnmarshalJSONStrict(text)
	// The package returns an empty list if it has found nothing.
	var problems cog.BuildErrors
	if errors.As(err, &problems) && len(problems) == 0 {
		err = nil
	}
	return errors.Join(err, found.Validate())
}

func main() {
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
