// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

func runFlows(ctx context.Context, env *env, args []string) error {
	var f clientFlags
	flags := newFlags("flows")
	f.register(env, flags)
	limit := flags.Int("limit", 1000, "show at most `N` flows; 0: all")
	service := flags.String("service", "", "only of this `SERVICE`: its name, with or without port, or a key such as tcp/192.0.2.1:80")
	if err := parseFlags(env, flags, args); err != nil {
		return err
	}
	query := url.Values{"limit": {"0"}, "service": {*service}}
	switch {
	case *limit < 0:
		return usageError{fmt.Errorf("--limit %d: want 0 or more", *limit)}
	case *limit > 0:
		// One more tells whether there are more.
		query.Set("limit", strconv.Itoa(*limit+1))
	}
	body, err := ask(ctx, f.socket, "/flows", query)
	if err != nil {
		return err
	}
	defer body.Close()
	list := newTableFlows(env.stdout)
	if f.json {
		list = &jsonFlows{w: env.stdout}
	}
	more, err := copyFlows(list, json.NewDecoder(body), *limit)
	if more && !f.json {
		fmt.Fprintf(env.stderr, "only the first %d flows: --limit 0 shows all\n", *limit)
	}
	return errors.Join(err, list.end(more))
}

// flowList is where flows are printed to, one by one.
type flowList interface {
	flow(flowReport) error
	end(more bool) error
}

// copyFlows prints up to limit flows and says whether there was another.
func copyFlows(list flowList, flows *json.Decoder, limit int) (more bool, err error) {
	for n := 0; ; n++ {
		var f flowReport
		switch err := flows.Decode(&f); {
		case errors.Is(err, io.EOF):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("read flows: %w", err)
		case f.Error != "":
			return false, fmt.Errorf("the agent says: %s", f.Error)
		case limit > 0 && n == limit:
			return true, nil
		}
		if err := list.flow(f); err != nil {
			return false, err
		}
	}
}

type tableFlows struct{ printer }

func newTableFlows(w io.Writer) flowList {
	t := tableFlows{newPrinter(w)}
	t.row("PROTO\tCLIENT\tVIP\tSERVICE\tBACKEND\tKIND\tSTATE\tIDLE\tREMARKS")
	return t
}

func (t tableFlows) flow(f flowReport) error {
	_, err := fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", f.Protocol, f.Client, address(f.VIP), f.Service,
		address(f.Backend), f.Kind, f.State, time.Duration(f.IdleSeconds)*time.Second, cmp.Or(remarks(f), "-"))
	return err
}

func (t tableFlows) end(bool) error { return t.Flush() }

func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

// remarks are the flags, and the client's port where the Pod sees another.
func remarks(f flowReport) string {
	words := f.Flags
	if f.PodPort != 0 && f.PodPort != f.Client.Port() {
		words = append(words, fmt.Sprintf("pod-port=%d", f.PodPort))
	}
	return strings.Join(words, ",")
}

// jsonFlows prints one object, flow by flow, so that a million need no memory.
type jsonFlows struct {
	w     io.Writer
	begun bool
}

func (j *jsonFlows) flow(f flowReport) error {
	text, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(j.w, "%s\n  %s", j.separator(), text)
	return err
}

func (j *jsonFlows) separator() string {
	if j.begun {
		return ","
	}
	j.begun = true
	return `{"flows": [`
}

func (j *jsonFlows) end(more bool) error {
	head := ""
	if !j.begun {
		head = j.separator()
	}
	_, err := fmt.Fprintf(j.w, "%s\n], \"more\": %t}\n", head, more)
	return err
}
