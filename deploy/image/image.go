// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	binaryPath  = "/fairlead"
	licensePath = "/LICENSE"
	// unprivileged is whom the image runs as unless a Pod says otherwise: a
	// number, so that Kubernetes can see that it is not root.
	unprivileged = "65532:65532"
)

// buildIndex builds the binary for every platform and wraps each in an image.
func buildIndex(ctx context.Context, o options) (v1.ImageIndex, error) {
	license, err := os.ReadFile(o.license)
	if err != nil {
		return nil, fmt.Errorf("read licence: %w", err)
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range o.platforms {
		binary, err := buildBinary(ctx, o, platform)
		if err != nil {
			return nil, err
		}
		img, err := newImage(o, platform, []file{{licensePath, 0o644, license}, {binaryPath, 0o755, binary}})
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", platform, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &platform}})
	}
	return index, nil
}

// buildBinary compiles without cgo, and without what differs from one machine
// or directory to the next.
func buildBinary(ctx context.Context, o options, platform v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "fairlead-image-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "binary")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", fmt.Sprintf("-buildvcs=%t", o.vcs),
		"-ldflags", "-s -w -buildid= -X main.version="+o.version, "-o", path, o.pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+platform.OS, "GOARCH="+platform.Architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s for %s: %w: %s", o.pkg, platform, err, bytes.TrimSpace(out))
	}
	return os.ReadFile(path)
}

// file is one of an image's files; its path begins with a slash.
type file struct {
	path string
	mode int64
	data []byte
}

func newImage(o options, platform v1.Platform, files []file) (v1.Image, error) {
	layer, err := newLayer(files, o.created)
	if err != nil {
		return nil, err
	}
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	created := v1.Time{Time: o.created}
	if img, err = mutate.Append(img, mutate.Addendum{
		Layer: layer, History: v1.History{Created: created, CreatedBy: "deploy/image", Comment: o.version},
	}); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = platform.OS, platform.Architecture, created
	config.Config = v1.Config{
		Entrypoint: []string{binaryPath}, User: unprivileged, WorkingDir: "/",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "fairlead",
			"org.opencontainers.image.source":   "https://github.com/fairlead/fairlead",
			"org.opencontainers.image.version":  o.version,
			"org.opencontainers.image.licenses": "Apache-2.0 AND (GPL-2.0-only OR BSD-2-Clause)",
		},
	}
	return mutate.ConfigFile(img, config)
}

// newLayer packs the files, all root's and of one time.
func newLayer(files []file, created time.Time) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: f.path[1:], Mode: f.mode, Size: int64(len(f.data)), ModTime: created, Format: tar.FormatUSTAR,
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer),
		tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
}
