package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
)

// archive writes an initial RAM file system: a cpio archive of the form "newc"
// (kernel documentation, driver-api/early-userspace/buffer-format).
type archive struct {
	w     io.Writer
	ino   int
	at    int
	dirs  map[string]bool
	first error
}

func (a *archive) write(b []byte) {
	if a.first == nil {
		_, a.first = a.w.Write(b)
	}
	a.at += len(b)
}

func (a *archive) pad() { a.write(make([]byte, (4-a.at%4)%4)) }

func (a *archive) entry(name string, mode int, data []byte) {
	a.ino++
	a.write(fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0))
	a.write(append([]byte(name), 0))
	a.pad()
	a.write(data)
	a.pad()
}

func (a *archive) dir(name string) {
	if name == "." || name == "/" || a.dirs[name] {
		return
	}
	a.dir(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, 0o040755, nil)
}

func (a *archive) file(name string, mode int, data []byte) {
	a.dir(path.Dir(name))
	a.entry(name, 0o100000|mode, data)
}

// writeImage puts the test binary, the libraries that it is linked to and the
// modules into an image.
func writeImage(out, binary string, k kernel) error {
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	a := &archive{w: w, dirs: map[string]bool{}}
	for _, d := range []string{"dev", "proc", "sys", "tmp", "run"} {
		a.dir(d)
	}
	a.entry("dev/console", 0o020600, nil) // replaced by the kernel's own; its numbers do not matter
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	a.file("init", 0o755, data)
	libs, err := libraries(binary)
	if err != nil {
		return err
	}
	for _, lib := range libs {
		data, err := os.ReadFile(lib)
		if err != nil {
			return err
		}
		a.file(lib[1:], 0o755, data)
	}
	for i, m := range k.modules {
		data, err := readModule(m)
		if err != nil {
			return err
		}
		a.file(fmt.Sprintf("modules/%02d-%s.ko", i, moduleName(m)), 0o644, data)
	}
	a.entry("TRAILER!!!", 0, nil)
	if a.first == nil {
		a.first = w.Flush()
	}
	if err := f.Close(); a.first == nil {
		a.first = err
	}
	return a.first
}

var libraryPath = regexp.MustCompile(`(?m)(?:=>\s+|^\s+)(/\S+) \(`)

// libraries are the files that the dynamic linker loads for a program.
func libraries(binary string) ([]string, error) {
	out, err := exec.Command("ldd", binary).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd: %w", err)
	}
	var list []string
	for _, m := range libraryPath.FindAllStringSubmatch(string(out), -1) {
		list = append(list, filepath.Clean(m[1]))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no library of %s was found", binary)
	}
	return list, nil
}
