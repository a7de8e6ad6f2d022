import cProfile,pstats,sys,threading
from pathlib import Path
from benchmarks import driver
driver._bare=lambda *a:(0,0)
import time; p=cProfile.Profile(time.process_time)
import rvbuild.engine.run.doit as d
orig=d.run
def run(*a,**k):
    p.enable(); orig(*a,**k); p.disable()
d.run=run
print(driver.build(Path(sys.argv[1]),int(sys.argv[2]),1))
s=pstats.Stats(p); s.sort_stats(sys.argv[3] if len(sys.argv)>3 else "tottime").print_stats(110)
