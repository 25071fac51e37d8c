// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/fairlead/fairlead/controller/desired"
)

// headTimeout is how long the agent may take to begin an answer.
const headTimeout = 30 * time.Second

// clientFlags are common to the commands that ask a running agent.
type clientFlags struct {
	socket string
	json   bool
}

func (f *clientFlags) register(env *env, flags *flag.FlagSet) {
	f.registerSocket(env, flags)
	outputFlag(flags, &f.json)
}

// registerSocket is register for a command without a report.
func (f *clientFlags) registerSocket(env *env, flags *flag.FlagSet) {
	flags.StringVar(&f.socket, "socket", cmp.Or(env.getenv("FAIRLEAD_SOCKET"), desired.DefaultSocket),
		"the agent's unix socket `PATH`; FAIRLEAD_SOCKET changes the default")
}

// outputFlag says whether JSON is wanted.
func outputFlag(flags *flag.FlagSet, asJSON *bool) {
	flags.Func("o", "output `FORMAT` table or json (default table)", func(s string) error {
		if s != "table" && s != "json" {
			return fmt.Errorf("want table or json")
		}
		*asJSON = s == "json"
		return nil
	})
}

// ask gets a path from the agent. The caller closes the body.
func ask(ctx context.Context, socket, path string, query url.Values) (io.ReadCloser, error) {
	return request(ctx, socket, http.MethodGet, path, query)
}

// post has the agent do something, and decodes its answer.
func post(ctx context.Context, socket, path string, query url.Values, into any) error {
	body, err := request(ctx, socket, http.MethodPost, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the agent's answer: %w", err)
	}
	return nil
}

func request(ctx context.Context, socket, method, path string, query url.Values) (io.ReadCloser, error) {
	transport := &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: headTimeout,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
	target := url.URL{Scheme: "http", Host: "agent", Path: path, RawQuery: query.Encode()}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, err
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, 4096)) // as much as there is
	return nil, fmt.Errorf("the agent says: %s", strings.TrimSpace(string(text)))
}

// show gets a report from the agent and writes it: as it came for -o json, by
// table otherwise. what names it in errors.
func show[Report any](ctx context.Context, env *env, f clientFlags, path string, query url.Values, what string, table func(io.Writer, Report) error) error {
	body, err := ask(ctx, f.socket, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	if f.json {
		_, err := io.Copy(env.stdout, body)
		return err
	}
	var report Report
	if err := json.NewDecoder(body).Decode(&report); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return table(env.stdout, report)
}
