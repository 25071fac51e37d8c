// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is a container image of one static program, which it runs.
type Image struct {
	Ref    string // by which Pods name it, with a tag other than latest
	Binary string // file of this machine
}

// pauseRef is the image of the container that holds a Pod's namespaces.
const pauseRef = "localhost/fairlead-pause:lab"

// buildPause compiles it.
func buildPause(ctx context.Context, dir string) (Image, error) {
	image := Image{Ref: pauseRef, Binary: filepath.Join(dir, "pause")}
	_, err := goCommand(ctx, ".", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", image.Binary,
		"github.com/fairlead/fairlead/perf/lab/kube/pause")
	return image, err
}

// write makes an archive as `docker save` does, which containerd imports.
func (i Image) write(path string) error {
	tag, err := name.NewTag(i.Ref, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("image %q: %w", i.Ref, err)
	}
	packed, err := i.pack()
	if err != nil {
		return fmt.Errorf("image %q: %w", i.Ref, err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching)
	if err != nil {
		return fmt.Errorf("image %q: %w", i.Ref, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return fmt.Errorf("image %q: %w", i.Ref, err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		return fmt.Errorf("image %q: %w", i.Ref, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config.Entrypoint = []string{i.program()}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return fmt.Errorf("image %q: %w", i.Ref, err)
	}
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		return fmt.Errorf("write image %q: %w", i.Ref, err)
	}
	return nil
}

// program is where the program is in the image.
func (i Image) program() string { return "/" + filepath.Base(i.Binary) }

// pack makes the one layer.
func (i Image) pack() ([]byte, error) {
	content, err := os.ReadFile(i.Binary)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: i.program()[1:], Mode: 0o755, Size: int64(len(content)), Format: tar.FormatUSTAR}
	if err := w.WriteHeader(header); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	return b.Bytes(), w.Close()
}
