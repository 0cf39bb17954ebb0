package queuetest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestPowerCutUnderManyWriters(t *testing.T) {
	writers, ops, every := 8, 6, 3
	if large {
		ops, every = 60, 1
	}
	dir := fastDir(t)
	events, _ := trace(t, dir, env(dir+"/store.db", Work{Ops: ops}, fmt.Sprint("QUEUETEST_WRITERS=", writers)), Fault{})
	said := make([]int, writers)
	disk := NewDisk(nil, 1)
	at := filepath.Join(fastDir(t), "image")
	n, dropped, marks, saw := 0, 0, 0, uint64(0)
	for i, e := range events {
		disk.Do(e)
		if e.Kind == Mark {
			var g, i int
			if _, err := fmt.Sscanf(e.Name, "writer %d %d", &g, &i); err == nil {
				said[g] = i + 1
				marks++
			}
		}
		seen := false
		if _, err := fmt.Sscanf(e.Name, "saw %d", &saw); e.Kind == Mark && err == nil {
			seen = true
		}
		if i%every != 0 && !seen {
			continue
		}
		for mode := range Modes {
			files, d := disk.Cut(mode, uint64(i))
			os.RemoveAll(at)
			if err := os.Mkdir(at, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := Save(at, files); err != nil {
				t.Fatal(err)
			}
			if err := CheckWriters(filepath.Join(at, "store.db"), writers, said, saw); err != nil {
				t.Fatalf("cut after event %d of %d, mode %d: %v", i, len(events), mode, err)
			}
			n++
			dropped += d
		}
	}
	if marks != writers*ops || dropped == 0 || saw == 0 {
		t.Errorf("a reader saw message %d; %d commits returned, want %d; %d pieces dropped", saw, marks, writers*ops, dropped)
	}
	t.Logf("%d cuts, %d commits of %d writers, %d pieces dropped", n, marks, writers, dropped)
}
