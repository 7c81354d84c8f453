"""Every word of report and terminal in each language, side by side. Data: saying.py puts them together."""

from __future__ import annotations

LANGUAGES = ("en", "zh-CN")
# Every word of report and terminal, in the order of LANGUAGES. Facts are formatted as in str.format; MB are MiB.
WORDS: dict[str, tuple[str, str]] = {
    # verdicts and statuses
    "title": ("Stress test report", "压力测试报告"),
    "verdict_pass": ("PASSED", "通过"),
    "verdict_fail": ("FAILED", "未通过"),
    "verdict_inconclusive": ("INCONCLUSIVE", "无法判定"),
    "head_pass": ("Every criterion that was tested is met.", "已测的判定项全部达标。"),
    "head_fail": ("Not met: {names}.", "未达标：{names}。"),
    "head_inconclusive": ("No criterion failed, but the run does not prove enough: {names}.",
        "没有不达标项，但证据不足：{names}。"),
    "head_whole": ("What was measured meets its criteria, but that is not enough.",
        "已测到的部分全部达标，但还不足以算通过。"),
    "head_tasks": ("{failed} of {submitted} tasks of the {phases} failed: {kinds}.",
        "{phases}的 {submitted} 个任务中有 {failed} 个失败：{kinds}。"),
    "head_recording_fail": ("Memory grows in {roles}, in a recording without tasks.",
        "{roles} 的内存持续增长（仅凭采样记录，没有任务数据）。"),
    "head_recording_pass": ("Memory does not grow more than it may, in a recording of a service at work.",
        "服务工作期间内存没有超限增长（仅凭采样记录）。"),
    "head_recording_inconclusive": ("A recording without tasks, which does not prove enough.",
        "只有采样记录，没有任务数据，证据不足。"),
    "head_untested": ("Not tested in this run: {names}.", "本次未测试：{names}。"),
    "lead": ("{sentences}.", "{sentences}。"),
    "lead_LEAK": ("Memory leaks in the {roles}", "内存泄漏出在 {roles}"),
    "lead_NO LEAK": ("No memory leak was found", "没有发现内存泄漏"),
    "lead_loaded": ("Memory leaks under load in the {roles}", "{roles} 在并发负载下有内存泄漏"),
    "lead_small": ("Memory grows in the {roles} by {rate:,.1f} MB per cycle, under the tolerance",
        "{roles} 的内存每轮增长 {rate:,.1f} MB，未超过容差"),
    "lead_small_together": ("Memory grows in the {roles} by {rate:,.1f} MB per cycle together, each under the "
        "tolerance",
        "{roles} 的内存每轮共增长 {rate:,.1f} MB，各自未超过容差"),
    "lead_gave_up": ("in the end no task succeeded", "到最后已没有任务成功"),
    "lead_open": ("Whether memory leaks is not decided", "是否有内存泄漏尚无定论"),
    "lead_queued": ("the service handles {stable} concurrent tasks, but not much faster than one after another",
        "服务的稳定并发数为 {stable}，但并不比逐个处理快多少"),
    "lead_stands": ("the service handles {stable} concurrent {stable:|task|tasks}", "服务的稳定并发数为 {stable}"),
    "lead_stands_more": ("the service handles at least {stable} concurrent {stable:|task|tasks}",
        "服务的稳定并发数为 {stable} 以上"),
    "lead_provisional": ("{stable} concurrent tasks look stable, which is not confirmed",
        "并发 {stable} 看起来稳定，但尚未确认"),
    "lead_stands_none": ("the service does not handle even one task", "服务连单个任务也无法稳定完成"),
    "at_least": ("at least {count}", "{count} 以上"),
    "lead_stands_open": ("how many concurrent tasks the service handles is not known", "服务的稳定并发数尚不清楚"),
    "cut_tool_fault": ("The test tool itself failed, which says nothing about the service: the run as a whole cannot "
        "pass.",
        "测试工具自身出错，与服务无关，因此整体不能算通过。"),
    "cut_interrupted": ("The run was interrupted: it cannot pass as a whole.", "测试中途被中断，因此整体不能算通过。"),
    "cut_early": ("The record ends before the ramp began: it cannot pass as a whole.",
        "记录在并发测试开始前就已结束，因此整体不能算通过。"),
    "cut_memory_reserve": ("The test ended early because less memory was free than --memory-reserve keeps: the run as "
        "a whole cannot pass.",
        "可用内存低于 --memory-reserve 的预留，测试提前结束，因此整体不能算通过。"),
    "cut_end": ("The record does not contain the end of the run, so the run cannot pass as a whole.",
        "记录中没有测试结束的标记，因此整体不能算通过。"),
    "no_text": ("{count} {count:|task was|tasks were} done, but the answer contained no text: nothing shows that the "
        "service did any work, so the run cannot pass.",
        "有 {count} 个任务返回成功，但答复中没有文本：看不出服务做过任何工作，因此不能算通过。"),
    "same_ids": ("{count} submissions share their task ids with others: their results prove nothing, so the run "
        "cannot pass.",
        "服务给 {count} 次提交返回了重复的任务 ID：这些结果不足为证，因此不能算通过。"),
    "no_ids": ("{count} {count:|task was|tasks were} done without a task id, though others have one: the run cannot "
        "pass.",
        "有 {count} 个成功的任务没有任务 ID，而其他任务都有：因此不能算通过。"),
    "cut_settings": ("Settings that the run is judged by are missing or impossible in the record ({names}), so it "
        "cannot pass.",
        "记录中的判定设置缺失或不可能成立（{names}），因此不能算通过。"),
    "ramp_memory": ("The {role} held {after:,.0f} MB when idle after the ramp, compared with {before:,.0f} before: a "
        "high-water mark or a leak; a ramp alone cannot show which.",
        "并发测试结束后 {role} 稳定占用 {after:,.0f} MB，之前为 {before:,.0f} MB：是高水位还是泄漏，仅凭并发测试无法"
        "判断。"),
    "ramp_memory_grows": ("The {role} held {after:,.0f} MB when idle after the ramp, compared with {before:,.0f} "
        "before, and each repeat of {level} concurrent {level:|task|tasks} added more ({readings} MB): growth under "
        "load.",
        "并发测试结束后 {role} 稳定占用 {after:,.0f} MB，之前为 {before:,.0f} MB；每次重跑并发 {level} 都继续增加（"
        "{readings} MB）：负载下的增长。"),
    "cut_lost": ("{count} {count:|result is|results are} missing from the file or cannot be read, so the run cannot "
        "pass as a whole.",
        "结果文件中有 {count} 条结果缺失或无法读取，因此整体不能算通过。"),
    "status_pass": ("passed", "通过"),
    "status_fail": ("FAILED", "未通过"),
    "status_inconclusive": ("inconclusive", "无法判定"),
    "status_not_measured": ("not measured", "未测量"),
    "leak_LEAK": ("LEAK", "有泄漏"),
    "leak_NO LEAK": ("NO LEAK", "无泄漏"),
    "leak_INCONCLUSIVE": ("INCONCLUSIVE", "无法判定"),
    "leak_NOT MEASURED": ("NOT MEASURED", "未测量"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "unknown": ("not recorded", "未记录"),
    "none": ("–", "–"),
    "list": (", ", "、"),
    "semicolon": ("; ", "；"),
    "space": (" ", ""),
    # criteria
    "long_audio_delta": ("growth per long task", "每个长音频任务后的内存增量"),
    "return_to_baseline": ("growth since first use", "较首次使用后的内存增量"),
    "no_cumulative_growth": ("growth per cycle", "每轮内存增长"),
    "min_concurrency": ("stable concurrent tasks", "稳定并发数"),
    "no_worker_crash": ("crashes of service processes", "服务进程崩溃次数"),
    "rtf_under_load": ("highest RTF with up to 3 concurrent tasks", "并发 3 以内的最大 RTF"),
    "limit_below": ("below {limit}", "低于 {limit}"),
    "limit_least": ("at least {limit}", "不低于 {limit}"),
    "limit_none": ("none", "不得发生"),
    "band_good": ("good (under {limit:g} MB)", "良好（低于 {limit:g} MB）"),
    "band_poor": ("poor ({limit:g} to {bad:g} MB)", "较差（{limit:g}–{bad:g} MB）"),
    "band_bad": ("bad (above {bad:g} MB)", "严重（超过 {bad:g} MB）"),
    "delta_text": ("the {role} keeps {median:+,.1f} MB after a task on {clip} (median of {tasks} after first use, "
        "at most {highest:+,.1f}): {band}",
        "每处理完一个 {clip}，{role} 内存变化 {median:+,.1f} MB（首次使用之后 {tasks} 个任务的中位数，最大 "
        "{highest:+,.1f} MB）：{band}"),
    "delta_mapped": ("{median:+,.1f} MB of RSS in the {role} after a task on {clip}, but only {private:+,.1f} MB of "
        "private memory: the rest is mapped files, which the kernel can take back",
        "每处理完一个 {clip}，{role} 的 RSS 变化 {median:+,.1f} MB，但私有内存只变化 {private:+,.1f} MB：其余是映射文"
        "件，"
        "内核可以收回"),
    "delta_gave_up": ("no task succeeded any more: the last {failed} {failed:|one|ones} failed ({kinds})",
        "之后没有任务再成功：最后 {failed} 个任务全部失败（{kinds}）"),
    "delta_few": ("{median:+,.1f} MB, but only {tasks} of {submitted} tasks on {clip} after its first use succeeded "
        "with settled memory",
        "变化 {median:+,.1f} MB，但 {clip} 首次使用之后的 {submitted} 个任务中，只有 {tasks} 个成功且内存回到稳定"),
    "baseline_text": ("at the end of the leak phase the {works} held {kept:+,.1f} MB compared with {base:,.1f} MB "
        "after first use",
        "泄漏测试结束时，{works} 内存与首次使用（第 0 轮）后的 {base:,.1f} MB 相比变化 {kept:+,.1f} MB"),
    "baseline_text_ramp": ("at the end of the leak phase the {works} held {kept:+,.1f} MB compared with {base:,.1f} "
        "MB after first use, and {after_ramp:+,.1f} MB after the ramp",
        "与首次使用（第 0 轮）后的 {base:,.1f} MB 相比，{works} 内存在泄漏测试结束时变化 {kept:+,.1f} MB，并发测试结"
        "束后变化 {after_ramp:+,.1f} MB"),
    "baseline_ramp": ("{kept:+,.1f} MB in the {works} after the leak phase, but {after_ramp:+,.1f} MB in the {role} "
        "after the ramp: either the high-water mark of many concurrent tasks, which stays but does not grow, or a "
        "leak that appears only under parallel load; loaded cycles show which (--phase loaded)",
        "泄漏测试结束时 {works} 变化 {kept:+,.1f} MB；但并发测试结束后 {role} 变化 {after_ramp:+,.1f} MB。可能是多任"
        "务并发留下的高水位（会保持，但不再增长），也可能是只在并发时才出现的泄漏。可用负载轮次（--phase loaded）区分"),
    "baseline_mapped": ("{kept:+,.1f} MB of RSS in the {works} at the end of the leak phase, but only "
        "{private:+,.1f} MB of private memory: the rest is mapped files, which the kernel can take back",
        "泄漏测试结束时 {works} 的 RSS 变化 {kept:+,.1f} MB，但私有内存只变化 {private:+,.1f} MB：其余是映射文件，内核"
        "可以"
        "收回"),
    "baseline_recycled": ("processes of the {works} are recycled: while they run they hold at most {contained:+,.1f} "
        "MB more than after first use",
        "{works} 进程会被定期回收：存活期间最多比首次使用后多占 {contained:+,.1f} MB"),
    "baseline_loaded_leak": ("the {grows} leaks under load: {rate:,.1f} MB per round of {size} concurrent "
        "{size:|task|tasks}",
        "{grows} 在负载下有泄漏：每轮 {size} 个并发任务增长 {rate:,.1f} MB"),
    "baseline_high_water": ("{after_ramp:+,.1f} MB in the {role} after the ramp: the high-water mark of many "
        "concurrent tasks, which stayed but did not grow in {cycles} more rounds of {size} (at most {bound:,.1f} MB "
        "per round)",
        "并发测试结束后 {role} 变化 {after_ramp:+,.1f} MB：是多任务并发留下的高水位，再跑 {cycles} 轮（每轮 {size} 个"
        "并发任务）也没有增长（每轮不超过 {bound:,.1f} MB）"),
    "baseline_loaded_open": ("{after_ramp:+,.1f} MB in the {role} after the ramp, and {cycles} more "
        "{cycles:|round|rounds} of {size} concurrent {size:|task|tasks} {cycles:|does|do} not decide "
        "whether the growth continues",
        "并发测试结束后 {role} 变化 {after_ramp:+,.1f} MB；再跑 {cycles} 轮（每轮 {size} 个并发任务）仍无法判定是否继"
        "续增长"),
    "baseline_loaded_undecided": ("{cycles} {cycles:|round|rounds} of {size} concurrent {size:|task|tasks} "
        "{cycles:|does|do} not decide whether the {grows} grows under load",
        "{cycles} 轮负载（每轮 {size} 个并发任务）仍无法判定 {grows} 在负载下是否增长"),
    "baseline_ramp_grows": ("{after_ramp:+,.1f} MB in the {role} after the ramp, and each repeat of {level} "
        "concurrent {level:|task|tasks} added more ({readings} MB): growth under load",
        "并发测试结束后 {role} 变化 {after_ramp:+,.1f} MB，且每次重跑并发 {level} 都继续增加（{readings} MB）：负载下"
        "的增长"),
    "baseline_unsettled": ("memory never settled for a reading ({kept:+,.1f} MB, unsettled): raise --settle-timeout",
        "内存始终没有稳定下来，读数（{kept:+,.1f} MB）不可靠：请调大 --settle-timeout"),
    "baseline_replaced": ("{kept:+,.1f} MB, but a process of the {works} was replaced meanwhile, which released its "
        "memory",
        "变化 {kept:+,.1f} MB，但中途有 {works} 进程被替换，它占用的内存随之消失，读数不能作数"),
    "growth_text": ("{roles}", "{roles}"),
    "growth_LEAK": ("{role}: LEAK ({rate:,.1f} MB per cycle)", "{role} 有泄漏（每轮增长 {rate:,.1f} MB）"),
    "growth_NO LEAK": ("{role}: NO LEAK (at most {bound:,.1f} MB per cycle)",
        "{role} 无泄漏（每轮增长不超过 {bound:,.1f} MB）"),
    "growth_INCONCLUSIVE": ("{role}: INCONCLUSIVE after {cycles} {cycles:|cycle|cycles}",
        "{role} 在 {cycles} 轮之后仍无法判定"),
    "growth_NOT MEASURED": ("{role}: NOT MEASURED", "{role} 未测量"),
    "crash_none": ("no service process crashed or was replaced (work-horses end with their jobs)",
        "没有服务进程崩溃或被替换（每任务一个的子进程随任务结束，不算）"),
    "death": ("{role} process {pid} ({name}) ended", "{role} 进程 {pid}（{name}）退出"),
    "killed": ("{words} (the kernel ended {count} for lack of memory meanwhile)",
        "{words}（期间内核因内存不足杀掉 {count} 个进程）"),
    "crash_text": ("{count} in all: {first}", "共 {count} 次：{first}"),
    "crash_recycled": ("none crashed; {count} {count:|process was|processes were} replaced between tasks (the first: "
        "{first})",
        "没有崩溃；有 {count} 个进程在任务之间被替换（第一个：{first}）"),
    "crashed_task": ("{task}: {words}", "{task}：{words}"),
    "crash_unread": ("none seen, but {count} {count:|result is missing or does|results are missing or do} not show "
        "which processes were running",
        "未发现进程崩溃，但有 {count} 条结果缺失，或没有记录当时哪些进程在运行"),
    "crash_no_work": ("not known for the {role}: {why}", "{role} 是否崩溃无从得知：{why}"),
    "crash_unrecorded": ("the results do not show which processes were running", "结果文件没有记录哪些进程在运行"),
    "stable_good": ("{stable} concurrent tasks are stable (good: 5 or more)",
        "{stable} 个任务并发时稳定（5 个及以上为良好）"),
    "stable_enough": ("{stable} concurrent tasks are stable (enough; 5 would be good)",
        "{stable} 个任务并发时稳定（够用；5 个及以上为良好）"),
    "stable_provisional": ("{stable} concurrent tasks look stable, but the confirmation runs are not in the record: "
        "{runs} runs of that level, and one more of the level that failed",
        "{stable} 个任务并发时看起来稳定，但记录中没有确认运行：该级应有 {runs} 次，失败的一级应再跑一次"),
    "stable_contradicted": ("{stable} concurrent {stable:|task|tasks} passed in the ramp, but {failed} "
        "{failed:|task|tasks} failed when a level of {at} was run again in loaded cycles",
        "并发测试中 {stable} 个任务并发时稳定，但之后的负载轮次以并发 {at} 重跑时有 {failed} 个任务失败"),
    "stable_failed": ("{breach}", "{breach}"),
    "stable_open": ("levels {lowest} to {highest} were tested; {stop}",
        "从并发 {lowest} 测起，最高测到 {highest}；{stop}"),
    "rtf_never_slow": ("at most {rtf:.2f} with up to {at} concurrent {at:|task|tasks}; under 1.0 at every level "
        "tested (up to {highest})",
        "并发不超过 {at} 时 RTF 最大 {rtf:.2f}；所测各级（最高到并发 {highest}）RTF 均低于 1.0"),
    "rtf_slow_later": ("at most {rtf:.2f} with up to {at} concurrent {at:|task|tasks}; 1.0 is reached with {level} "
        "({slow_rtf:.2f})",
        "并发不超过 {at} 时 RTF 最大 {rtf:.2f}；到并发 {level} 时达到 1.0（实测 {slow_rtf:.2f}）"),
    "rtf_slow": ("1.0 is reached with {level} concurrent {level:|task|tasks} ({slow_rtf:.2f}): tasks take longer than "
        "their recordings",
        "并发 {level} 时 RTF 已达 1.0（实测 {slow_rtf:.2f}）：处理耗时不短于录音时长"),
    "rtf_open": ("at most {rtf:.2f} with up to {at} concurrent {at:|task|tasks}, but not every level up to 3 was "
        "completed",
        "并发不超过 {at} 时 RTF 最大 {rtf:.2f}，但并发 3 及以下的各级没有全部完成"),
    "no_leak_phase": ("the leak phase was not asked for", "本次未选择泄漏测试（--phase）"),
    "no_ramp_phase": ("the concurrency ramp was not asked for", "本次未选择并发测试（--phase）"),
    "no_leak_lines": ("the leak phase left no result", "泄漏测试没有留下结果"),
    "no_ramp_levels": ("{stop}, before its first level", "{stop}，第一级还没有开始"),
    "no_ramp_lines": ("the concurrency ramp left no result", "并发测试没有留下结果"),
    "memory_not_watched": ("memory was not watched (--no-watch)", "没有监控内存（--no-watch）"),
    "no_long_task": ("no successful task on {clip} after its first use has settled memory readings",
        "{clip} 首次使用之后，没有带稳定内存读数的成功任务"),
    "no_baseline": ("the reading after first use or the later ones are missing",
        "缺少首次使用后的读数，或缺少之后的读数"),
    "no_rtf": ("no task of the ramp succeeded with a known RTF", "并发测试中没有一个成功且 RTF 已知的任务"),
    # a recording without tasks
    "growth_per_hour": ("growth per hour", "每小时内存增长"),
    "hourly_role": ("{role}: {why}", "{role}：{why}"),
    "hourly_grew": ("grew {slope:,.1f} MB per hour (at least {low:,.1f}), {grown:,.0f} MB in {hours:.1f} h, and does "
        "not slow down; a cache that is not full yet looks the same",
        "每小时增长 {slope:,.1f} MB（至少 {low:,.1f}），{hours:.1f} 小时内共 {grown:,.0f} MB，没有放缓；尚未填满的缓"
        "存看起来也是这样"),
    "hourly_grew_slowly": ("grew {slope:,.1f} MB per hour (at least {low:,.1f}, at most {high:,.1f}), under the "
        "tolerance of {tolerance:.1f}: 1 GB of free memory lasts {hours_per_gb:,.0f} h",
        "每小时增长 {slope:,.1f} MB（至少 {low:,.1f}，至多 {high:,.1f}），未超过容差 {tolerance:.1f}：1 GB 空闲内存可"
        "用 {hours_per_gb:,.0f} 小时"),
    "hourly_flat": ("flat within {within:,.1f} MB per hour over {hours:.1f} h",
        "{hours:.1f} 小时内平稳，每小时变化不超过 {within:,.1f} MB"),
    "hourly_fell": ("fell by {fall:,.1f} MB per hour over {hours:.1f} h, and does not grow by more than {high:,.1f}",
        "{hours:.1f} 小时内每小时下降 {fall:,.1f} MB，增长不超过每小时 {high:,.1f} MB"),
    "hourly_recycled": ("its processes were replaced {count} {count:|time|times}, after about {life:.0f} min each: "
        "what each kept in its life is not judged; run the leak phase, or record while they are not recycled",
        "其进程被替换了 {count} 次，每个约运行 {life:.0f} 分钟：各自在生命周期内留下多少无从判定；请运行泄漏阶段，或在"
        "不回收进程时记录"),
    "hourly_too_short": ("{minutes:.0f} min without a break are too short: at least {least:.0f} are needed",
        "连续记录只有 {minutes:.0f} 分钟，太短：至少需要 {least:.0f} 分钟"),
    "hourly_too_few_samples": ("{samples} {samples:|sample is|samples are} too few, or too unevenly spread: at least "
        "{least} are needed",
        "只有 {samples} 次采样，太少或分布太不均匀：至少需要 {least} 次"),
    "hourly_too_noisy": ("growth is between {low:,.1f} and {high:,.1f} MB per hour: about {enough:.1f} h are needed "
        "for an answer",
        "每小时增长在 {low:,.1f} 至 {high:,.1f} MB 之间：约需记录 {enough:.1f} 小时才能判定"),
    "hourly_one_jump": ("most of what grew is one jump of {step:,.0f} MB: a longer recording shows whether it happens "
        "again",
        "增长主要来自一次 {step:,.0f} MB 的跳增：需要更长的记录看它是否再次出现"),
    "hourly_swings": ("memory goes up and down, once by {fall_back:,.0f} MB: look for caches and garbage collection, "
        "or record for longer",
        "内存有涨有落，最多一次回落 {fall_back:,.0f} MB：请检查缓存与垃圾回收，或延长记录"),
    "hourly_slowing_down": ("grew by {grown:,.0f} MB, slower and slower: it may be a warm-up; record for longer",
        "共增长 {grown:,.0f} MB，但在放缓：可能是预热，请延长记录"),
    "hourly_unconfirmed": ("grew {slope:,.1f} MB per hour: a longer recording shows whether it goes on",
        "每小时增长 {slope:,.1f} MB：需要更长的记录看是否持续"),
    "hourly_rises_not_over": ("memory rose {jumps} {jumps:|time|times}, by {size:,.0f} MB on average, and it is too "
        "soon to say that this is over: record for longer",
        "内存上升过 {jumps} 次，平均 {size:,.0f} MB，现在断定已经停止还为时过早：请延长记录"),
    "hourly_part": ("this is the longest part without a break: {replaced} {replaced:|time|times} a long-lived "
        "process came or went, or sampling paused",
        "以上只按没有中断的最长一段判定（常驻进程启动、退出或采样停顿，共 {replaced} 次）"),
    "hourly_idle": ("but it worked in {worked:.0f} % of the time only: flat memory of a service at rest proves nothing",
        "但只有 {worked:.0f}% 的时段在工作：空闲服务的内存平稳不能说明什么"),
    "hourly_less_sure": ("A recording says neither when memory was at rest nor which tasks were done, so this is less "
        "sure than a test: it was cut into equal blocks, of each of which the lowest level that was held counts.",
        "采样记录既不知道内存何时处于稳定，也不知道完成了哪些任务，因此不如测试可靠：记录被等分为若干段，每段取其保持"
        "过的最低水平来判定。"),
    "memory_hourly": ("Memory: {roles}.", "内存：{roles}。"),
    # hosts
    "part_hosts": ("Hosts of the service", "服务所在主机"),
    "col_host": ("host", "主机"),
    "col_roles": ("roles", "角色"),
    "col_cpus": ("CPUs", "CPU 数"),
    "col_host_memory": ("memory", "内存"),
    "col_file": ("file", "文件"),
    "clock_ntp": ("{host}: NTP keeps its clock and that of the load, which differ by at most {error:.3f} s.",
        "{host}：该主机与负载机的时钟都由 NTP 保持同步，相差不超过 {error:.3f} s。"),
    "clock_work": ("{host}: its clock was ahead of that of the load by {offset:+.1f} s (uncertain by {error:.1f} s), "
        "judging by when its processes worked; its times are corrected by that.",
        "{host}：从其进程的工作时刻看，该主机时钟比负载机快 {offset:+.1f} s（误差 {error:.1f} s），其时间已按此修正。"),
    "clock_agrees": ("{host}: its clock and that of the load agree within {error:.1f} s, judging by when its processes "
        "worked.",
        "{host}：从其进程的工作时刻看，该主机与负载机的时钟相差不超过 {error:.1f} s。"),
    "clock_unknown": ("{host}: how far its clock is off that of the load cannot be seen (its processes worked too "
        "little, or there was no pause between tasks): it is taken as it is. Have NTP keep both (chrony, "
        "systemd-timesyncd).",
        "{host}：看不出该主机时钟与负载机相差多少（其进程工作太少，或任务之间没有间隔），按原样采用。请用 NTP（chrony、"
        "systemd-timesyncd）同步两边的时钟。"),
    "clock_not_kept": ("NTP does not keep it.", "该时钟没有由 NTP 同步。"),
    "clock_zone": ("Its local time is {hours:+g} h from that of the load, which is allowed for.",
        "其本地时间与负载机相差 {hours:+g} 小时，已换算。"),
    "host_csv_alone": ("{host}: without {file} only RSS is known, and the roles by the names of their programs.",
        "{host}：没有 {file}，只有 RSS，角色只能按程序名判断。"),
    "host_other_run": ("{file} was left out: its times are not those of the run, and the results do not say in which "
        "time zone they were recorded, if that is why",
        "{file} 与测试不在同一时段，未予采用；若是时区不同所致，结果中没有负载机的时区可供换算"),
    "host_no_roles": ("{file} was left out: none of its processes is known as a role of the service; where "
        "--phase monitor recorded it, host_<time>.jsonl beside it says which are",
        "{file} 未予采用：其中没有已知角色的进程；若由 --phase monitor 记录，其旁的 host_<time>.jsonl 会说明角色"),
    "host_own": ("{file} was left out: it is of the machine that the test itself watched",
        "{file} 来自测试自身已监控的机器，未予采用"),
    "host_short": ("{file} lacks {seconds:,.0f} s of the run: the monitor began too late or ended too early",
        "{file} 缺少测试中的 {seconds:,.0f} s：监控开始得太晚或结束得太早"),
    "host_gpu": ("{files}: GPU memory is recorded there but not judged; a test that runs on the machine with the GPU "
        "judges it",
        "{files} 记录了 GPU 显存，但未用于判定；在装有该 GPU 的机器上运行测试才会判定显存"),
    "cut_host": ("A host that was named could not be joined with the run, so the run cannot pass.",
        "有一台指定的主机无法与本次测试对应，因此不能算通过。"),
    "cut_host_short": ("A host was not watched during the whole run, so the run cannot pass.",
        "有一台主机没有在整个测试期间受到监控，因此不能算通过。"),
    "host_skipped": ("{file}: {count} {count:|line|lines} cannot be read and {count:|was|were} left out",
        "{file}：有 {count} 行无法读取，已略去"),
    "reason_no_rest": ("no reading of it is at rest: the monitor did not run then, or there were no pauses of 4 s "
        "between tasks",
        "没有它处于稳定状态的读数：当时没有运行监控，或任务之间没有 4 秒以上的间隔"),
    # why the ramp ended
    "stop_failure": ("the ramp ended because a task failed", "有任务失败，并发测试到此为止"),
    "stop_worker_died": ("the ramp ended because a service process crashed", "有服务进程崩溃，并发测试到此为止"),
    "stop_rtf_limit": ("the ramp ended because a task reached the RTF limit", "有任务达到 RTF 上限，并发测试到此为止"),
    "stop_memory_reserve": ("the ramp ended because more concurrent tasks used up the memory reserve of this machine "
        "or of a container, or would have",
        "再加并发会突破（或已突破）本机或容器的内存预留，并发测试到此为止"),
    "stop_max_concurrency": ("the ramp reached its last level (--max-concurrency)",
        "已测到最后一级（--max-concurrency）"),
    "stop_client_limited": ("the ramp ended because the test tool itself became the limit",
        "测试工具自身成为瓶颈，并发测试到此为止"),
    "stop_interrupted": ("the ramp was interrupted", "并发测试被中断"),
    "stop_unknown": ("why the ramp ended is not recorded", "没有记录并发测试为何结束"),
    # the three sentences
    "memory_head": ("Memory: {sentences}.", "内存：{sentences}。"),
    "memory_leak": ("the {role} leaks: {reason}", "{role} 有泄漏，{reason}"),
    "memory_doubt": ("Memory: no growth per cycle in {roles}, but that is not all: {reason}.",
        "内存：{roles} 没有逐轮增长，但还不能下结论。{reason}。"),
    "memory_follows": ("The growth follows {clip}.", "增长主要来自 {clip}。"),
    "memory_clean": ("Memory: no leak found in {roles}. {reason}.", "内存：{roles} 未发现泄漏。{reason}。"),
    "memory_small": ("Memory: the {role} {reason}.", "内存：{role} {reason}。"),
    "memory_open": ("Memory: not decided for the {role}: {reason}.", "内存：{role} 无法判定。{reason}。"),
    "memory_ramp": ("Memory: not judged: {reason}; when idle the {role} held {before:,.0f} MB before the ramp and "
        "{after:,.0f} MB after it.",
        "内存：未作判定。{reason}；空闲时 {role} 在并发测试开始时占用 {before:,.0f} MB，结束后占用 {after:,.0f} MB。"),
    "recycled": ("Processes of the {roles} were replaced between tasks {count} {count:|time|times}, which is no crash.",
        "{roles} 的进程在任务之间被替换 {count} 次，不算崩溃。"),
    "memory_none_role": ("Memory: not judged for the {role}: {reason}.", "内存：{role} 未作判定。{reason}。"),
    "memory_none": ("Memory: not judged: {reason}.", "内存：未作判定。{reason}。"),
    "old_sentence": ("Memory: not judged: the results record a process of at most {recorded:,.1f} MB, while others "
        "that did the work reached {peak:,.0f} MB and still held {held:,.0f} MB at their last sample.",
        "内存：未作判定。结果记录的进程最多只有 {recorded:,.1f} MB 内存，而真正执行任务的其他进程峰值达 {peak:,.0f} "
        "MB，最后一次采样时仍占用 {held:,.0f} MB。"),
    "ramp_doubt": ("Concurrency: {reason}; {stop}.", "并发：{reason}；{stop}。"),
    "explained": ("{what}: {why}.", "{what}：{why}。"),
    "ramp_none": ("Concurrency: not tested: {reason}.", "并发：未测试。{reason}。"),
    "ramp_head": ("Concurrency: up to {stable} concurrent {stable:|task|tasks} without a failure, {real_time}; "
        "{stop}. {together}",
        "并发：稳定并发数为 {stable}（无失败），{real_time}；{stop}。{together}"),
    "ramp_broken": ("Concurrency: even one task at a time is not stable; {breach}.",
        "并发：即使一次只有一个任务也不稳定。{breach}。"),
    "real_all": ("all faster than real time (RTF under 1.0)", "该并发及以下各级任务全部快于实时（RTF 低于 1.0）"),
    "real_some": ("up to {real_time} of them faster than real time (RTF under 1.0)",
        "其中并发 {real_time} 及以下的任务全部快于实时（RTF 低于 1.0）"),
    "real_none": ("but even at the lowest level a task takes as long as its recording (RTF 1.0 or more)",
        "但从最低一级起就有任务不快于实时（RTF 达到 1.0）"),
    "real_unknown": ("but up to how many are faster than real time is not known", "但快于实时的最高并发数尚不清楚"),
    "together_not": ("Concurrent tasks are not much faster than one after another: with up to {stable} the throughput "
        "is never more than {parallelism:.1f} times that of one task, so beyond {knee} at a time tasks wait for each "
        "other.",
        "并发处理并不比逐个处理快多少：并发不超过 {stable} 时，总处理速度最高只有单个任务的 {parallelism:.1f} 倍，超"
        "过 {knee} 个的任务只是在互相等待。"),
    "together_waits": ("The throughput is at most {parallelism:.1f} times that of one task: beyond {knee} concurrent "
        "{knee:|task|tasks} they only wait.",
        "总处理速度最高为单个任务的 {parallelism:.1f} 倍：超过 {knee} 个的任务只是在排队。"),
    "together_yes": ("Tasks run in parallel: the highest throughput, {parallelism:.1f} times that of one task, is "
        "reached with {knee} concurrent tasks.",
        "任务确实在同时处理：从并发 {knee} 起总处理速度最高，为单个任务的 {parallelism:.1f} 倍。"),
    "together_not_no_knee": ("Concurrent tasks are not much faster than one after another: with up to {stable} the "
        "throughput is never more than {parallelism:.1f} times that of one task.",
        "并发处理并不比逐个处理快多少：并发不超过 {stable} 时，总处理速度最高只有单个任务的 {parallelism:.1f} 倍。"),
    "together_yes_no_knee": ("Tasks run in parallel: the highest throughput with up to {stable} concurrent tasks is "
        "{parallelism:.1f} times that of one task.",
        "任务确实在同时处理：并发不超过 {stable} 时，总处理速度最高为单个任务的 {parallelism:.1f} 倍。"),
    "knee_too_few_levels": ("not found, since fewer than {least} stable levels were measured",
        "未找到（测得的稳定级别不足 {least} 级）"),
    "knee_runs_differ": ("not found, since single runs differ too much in their throughput",
        "未找到（各次运行的处理速度相差太大）"),
    "together_unknown": ("Whether the tasks ran in parallel is not known: level 1 was not measured.",
        "任务是否真正同时处理尚不清楚：没有并发 1 的数据可比。"),
    "ramp_open": ("Concurrency: no stable level was found; {stop}.", "并发：没有测出稳定的级别；{stop}。"),
    "rising_threads": ("Threads of the {role} rise with the tasks, from {first} to {last}, by {per_task:,.1f} per "
        "task: they are started and do not end, which fails in the end whatever memory does. Only a pool that is not "
        "full yet looks the same.",
        "{role} 的线程数随任务增加，从 {first} 增到 {last}，每个任务增加 {per_task:,.1f} 个：线程启动后没有结束，不论内"
        "存如何，迟早会出故障。只有尚未填满的线程池看起来也是这样。"),
    "rising_files": ("Open files of the {role} rise with the tasks, from {first} to {last}, by {per_task:,.1f} per "
        "task: they are opened and not closed. {limit}",
        "{role} 打开的文件数随任务增加，从 {first} 增到 {last}，每个任务增加 {per_task:,.1f} 个：文件打开后没有关闭。"
        "{limit}"),
    "rising_sockets": ("Open files of the {role}, most of them sockets, rise with the tasks, from {first} to {last}, "
        "by {per_task:,.1f} per task: connections are opened and not closed. {limit}",
        "{role} 打开的文件（多数为 socket）随任务增加，从 {first} 增到 {last}，每个任务增加 {per_task:,.1f} 个：连接建"
        "立后没有关闭。{limit}"),
    "rising_limit": ("After about {tasks:,} more {tasks:|task|tasks} process {pid} may open no more.",
        "再处理约 {tasks:,} 个任务，进程 {pid} 就达到可打开文件数的上限。"),
    "grew_arenas": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are small blocks in the "
        "allocator's {arenas} arenas, at {threads} threads: fragmentation is likely. To find out, start the service "
        "with {test}, repeat the run and compare with --baseline.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是分配器 {arenas} 个 arena 里的小块内存，该进程"
        "有 {threads} 个线程：很可能是内存碎片。可用 {test} 启动服务后重跑，并用 --baseline 对比来确认。"),
    "grew_heap": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are small blocks on the "
        "allocator's heap: kept by native code or by Python objects of more than 512 bytes, or fragmentation. To find "
        "out, start the service with {test}, repeat the run and compare with --baseline.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是分配器堆里的小块内存：可能是原生代码或超过 "
        "512 字节的 Python 对象没有释放，也可能是内存碎片。可用 {test} 启动服务后重跑，并用 --baseline 对比来确认。"),
    "grew_tuned": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are small blocks on the "
        "allocator's heap though it runs with {test}: fragmentation is unlikely; native code keeps them, or Python "
        "objects of more than 512 bytes.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是分配器堆里的小块内存；它已设置 {test}，不大可"
        "能是内存碎片，而是原生代码或超过 512 字节的 Python 对象没有释放。"),
    "grew_large": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are large blocks of memory: "
        "arrays, tensors or audio are kept.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是大块内存：数组、张量或音频没有释放。"),
    "grew_large_python": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are large blocks of "
        "memory: arrays, tensors or audio are kept, or many small Python objects, which Python keeps in such blocks.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是大块内存：数组、张量或音频没有释放，或者是大"
        "量 Python 小对象（Python 把它们放在这样的块里）。"),
    "grew_allocator": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are in mappings of its "
        "allocator ({allocator}), which hold blocks of any size: only its own statistics distinguish kept blocks from "
        "free ones.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 在其分配器（{allocator}）的映射里，其中大小块都"
        "有：只有分配器自己的统计才能区分在用的块与空闲的块。"),
    "grew_go": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are in Go's heap: pprof shows "
        "what keeps them.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 在 Go 的堆里：用 pprof 可以看出是什么没有释"
        "放。"),
    "grew_redis": ("Process {pid} ({role}) gained {total:,.0f} MB: Redis keeps more data with each cycle, such as "
        "results that do not expire.",
        "进程 {pid}（{role}）增加了 {total:,.0f} MB：Redis 里的数据每轮都在增加，例如不会过期的结果。"),
    "grew_shared": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are shared memory: segments, "
        "or tensors handed between processes, are not freed.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是共享内存：共享内存段或进程间传递的张量没有释"
        "放。"),
    "grew_stacks": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are stacks of threads that "
        "do not end.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是没有结束的线程的栈。"),
    "grew_copied": ("Of {total:,.0f} MB that process {pid} ({role}) gained, {mb:,.0f} MB are pages of mapped files "
        "that it has written to.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 中，有 {mb:,.0f} MB 是它改写过的文件映射页。"),
    "grew_lazy": ("Process {pid} ({role}) gained {total:,.0f} MB, but has freed {lazy:,.0f} MB of that, which the "
        "kernel takes back only when memory is short (MADV_FREE): that part is no leak.",
        "进程 {pid}（{role}）增加了 {total:,.0f} MB，但其中 {lazy:,.0f} MB 已经释放，内核要到内存紧张时才收回（"
        "MADV_FREE）：这部分不是泄漏。"),
    "grew_mixed": ("The {total:,.0f} MB that process {pid} ({role}) gained are of several kinds: {parts}.",
        "进程 {pid}（{role}）增加的 {total:,.0f} MB 由多种内存组成：{parts}。"),
    "grew_part": ("{mb:,.0f} MB {kind}", "{kind} {mb:,.0f} MB"),
    "grew_mapped": ("Mapped files of the {role} grew by {rate:,.1f} MB per cycle ({names}), and RSS with them; the "
        "kernel can take such pages back, so they are not judged.",
        "{role} 的映射文件每轮增长 {rate:,.1f} MB（{names}），RSS 随之上升；内核可以收回这些页，因此不作判定。"),
    "gpu_unknown": ("GPU memory was not judged: the driver does not tell whose it is, or others use the GPU too.",
        "没有判定 GPU 显存：驱动没有说明其归属，或者还有其他程序在用该 GPU。"),
    "next_leak_gpu": ("Next: find what the {role} keeps after a task (torch.cuda.memory_summary() in the task, around "
        "{clip}), then repeat this test and compare with --baseline {file}.",
        "下一步：检查 {role} 在任务结束后没有释放的显存（围绕 {clip} 在任务里调用 torch.cuda.memory_summary()），修改后"
        "重跑，并用 --baseline {file} 对比。"),
    "many_files": ("many files, none of them large", "许多文件，没有特别大的"),
    "next_rising": ("Next: find what leaves {kept} behind in the {rising} (the report's commands show them), then "
        "repeat this test.",
        "下一步：查明 {rising} 中是什么遗留了{kept}（报告里的命令可以列出它们），然后重跑。"),
    "kept_threads": ("threads", "线程"),
    "kept_files": ("open files", "打开的文件"),
    "next_leak": ("Next: find what the {role} keeps after a task (tracemalloc or memray around {clip}), then repeat "
        "this test and compare with --baseline {file}.",
        "下一步：检查 {role} 在任务结束后没有释放的对象（围绕 {clip} 用 tracemalloc 或 memray 排查），修改后重跑，并"
        "用 --baseline {file} 对比。"),
    "next_leak_go": ("Next: find what the {role} keeps after a task (for Go: pprof, heap and goroutines, around "
        "{clip}), then repeat this test and compare with --baseline {file}.",
        "下一步：检查 {role} 在任务结束后没有释放的内存（Go 程序可围绕 {clip} 用 pprof 查看 heap 与 goroutine），修改"
        "后重跑，并用 --baseline {file} 对比。"),
    "next_empty": ("Next: ask the service for the text of such a task, and test with clips of speech.",
        "下一步：查看这类任务返回的文本，并改用有语音的音频测试。"),
    "next_ids": ("Next: see why the service gives several submissions the same task id, then repeat the run.",
        "下一步：查明服务为何给多次提交返回同一个任务 ID，然后重跑。"),
    "next_watch": ("Next: find the process that does the work and name it (--list, --watch, --pid), then repeat the "
        "run.",
        "下一步：找出真正执行任务的进程并加以监控（--list、--watch、--pid），然后重跑。"),
    "next_failed": ("Next: see why tasks of the {phases} fail (the table of failures), then repeat the run.",
        "下一步：查明{phases}中的任务为何失败（见失败一览表），然后重跑。"),
    "next_loaded": ("Next: find what the {role} keeps after tasks that overlap, then repeat this test and compare "
        "with --baseline {file}.",
        "下一步：检查 {role} 在多个任务同时处理之后没有释放的内存，修改后重跑，并用 --baseline {file} 对比。"),
    "next_loaded_alone": ("Next: without restarting the service, find out whether it is a high-water mark or a leak: "
        "--phase loaded --at-once {stable}.",
        "下一步：不要重启服务，用 --phase loaded --at-once {stable} 区分高水位与泄漏。"),
    "next_unwatched": ("Next: find out whose memory grew (Where the machine's memory went, in the report); a process "
        "of the service is watched with --watch or --pid; then repeat.",
        "下一步：查明增长的内存属于谁（见报告“整机内存去向”一节）；若是服务的进程，请用 --watch 或 --pid 监控，然后重"
        "跑。"),
    "next_unsettled": ("Next: let no other users or jobs use the service, or raise --settle-timeout, then repeat.",
        "下一步：避免其他用户和任务使用该服务，或调大 --settle-timeout，然后重跑。"),
    "next_sampler_gap": ("Next: repeat the run while this machine is less busy.", "下一步：在机器不那么忙的时候重跑。"),
    "next_gap_unknown": ("Next: judge the run with its CSV (--resources).",
        "下一步：连同 CSV 一起判定（--resources）。"),
    "next_lower_start": ("Next: repeat with a lower --start: {level} concurrent {level:|task|tasks} failed, and fewer "
        "were not tried.",
        "下一步：调低 --start 后重跑：并发 {level} 就已失败，更低的级别没有测过。"),
    "next_memory_reserve": ("Next: free memory on this machine, or lower --memory-reserve or --start, then repeat with "
        "--phase concurrency.",
        "下一步：腾出内存，或调低 --memory-reserve 或 --start，然后用 --phase concurrency 重跑。"),
    "next_memory": ("Next: free memory on this machine, or lower --memory-reserve, then repeat the run.",
        "下一步：腾出内存，或调低 --memory-reserve，然后重跑。"),
    "next_rtf_limit": ("Next: repeat with --phase concurrency --rtf-limit 0, which goes on until something fails.",
        "下一步：用 --phase concurrency --rtf-limit 0 重跑，一直测到出现失败为止。"),
    "next_high_delta": ("Next: find what the {works} keeps after {clip} (tracemalloc or memray), then repeat and "
        "compare with --baseline {file}.",
        "下一步：用 tracemalloc 或 memray 找出 {works} 处理 {clip} 后保留了什么，修改后重跑，并用 --baseline {file} "
        "对比。"),
    "next_crash": ("Next: read the log of the process that crashed and the kernel's log (dmesg | grep -i oom), then "
        "repeat.",
        "下一步：查看崩溃进程的日志和内核日志（dmesg | grep -i oom），然后重跑。"),
    "next_concurrency": ("Next: see why {level} concurrent {level:|task fails|tasks fail} (What failed first, in the "
        "report), then repeat with --phase concurrency.",
        "下一步：查明并发 {level} 时任务为何失败（见报告“并发”一节的“最先出现的问题”），然后用 --phase concurrency 重"
        "跑。"),
    "next_slow_beside": ("Next: process {pid} ({name}) used {cores:.1f} of a core meanwhile. If it is not part of the "
        "service, end it and repeat the run; else add workers or faster recognition.",
        "下一步：其间进程 {pid}（{name}）占用了 {cores:.1f} 个 CPU 核。若它不属于本服务，请先结束它再重跑；否则请增加 "
        "worker 或提高识别速度。"),
    "next_slow": ("Next: add workers or faster recognition: with {slow_level} concurrent {slow_level:|task|tasks} "
        "recognition is slower than real time.",
        "下一步：增加 worker 或提高识别速度：并发 {slow_level} 时处理已慢于实时。"),
    "next_cycles": ("Next: run on without restarting the service: --phase {phase} --min-cycles {cycles} "
        "--max-cycles {most}.",
        "下一步：不要重启服务，继续运行：--phase {phase} --min-cycles {cycles} --max-cycles {most}。"),
    "next_again": ("Next: repeat the run so that nothing is missing ({what}).",
        "下一步：重新运行，补齐缺失的部分（{what}）。"),
    "next_results": ("Next: for a verdict per task, read the .jsonl of the load with these samples as --resources.",
        "下一步：如需按任务判定，请读取负载的 .jsonl，并用 --resources 给出这些采样。"),
    "next_recording_grew": ("Next: run memory_leak_stress_test.py on the service: it shows how much a task keeps, and "
        "in which process.",
        "下一步：用 memory_leak_stress_test.py 测试该服务，看每个任务在哪个进程中保留了多少内存。"),
    "next_hosts": ("Next: see below which host was left out; record each with --phase monitor while the load runs, and "
        "name the CSVs of all with --resources.",
        "下一步：见下方哪台主机未予采用；压测期间在每台主机上用 --phase monitor 记录，并用 --resources 给出全部 CSV。"),
    "next_whole": ("Next: repeat the run to its end.", "下一步：重新运行，直到正常结束。"),
    "next_old": ("Next: repeat with memory_leak_stress_test.py on the machine of the service: it watches the whole "
        "process tree.",
        "下一步：在服务所在机器上用 memory_leak_stress_test.py 重新测试：它会监控整棵进程树。"),
    "next_keep": ("Next: keep this run; after the next change compare with --baseline {file}.",
        "下一步：保留本次结果；下次改动后用 --baseline {file} 对比。"),
    # the report's parts
    "part_compare": ("Before and after", "前后对比"),
    "part_run": ("The run", "测试概况"),
    "part_memory": ("Memory", "内存"),
    "part_kinds": ("What kind of memory grew", "增长的是哪种内存"),
    "kinds_head": ("Memory by its kind, at rest after cycle {first} and after cycle {last}, of the process of each "
        "role that grew or changed most. All kinds but mapped files are private memory, which is judged.",
        "按种类划分的内存：第 {first} 轮与第 {last} 轮之后的稳定读数，各角色取增长或变化最大的进程。除映射文件外都属"
        "于私有内存，也就是判定的依据。"),
    "kinds_same": ("No kind of memory of any process changed by {limit:g} MB or more from cycle {first} to cycle "
        "{last}, nor did threads and open files.",
        "从第 {first} 轮到第 {last} 轮，各进程没有任何一种内存的变化达到 {limit:g} MB，线程数与打开的文件数也没有变"
        "化。"),
    "kinds_hidden": ("Which kind of memory these hold could not be read: {roles}. Of other users' processes only they "
        "and root can (sudo), and some kernels do not tell it.",
        "读不到以下角色的内存种类：{roles}。其他用户的进程只有该用户或 root 才能读取（sudo），也有内核不提供这些信"
        "息。"),
    "kind_heap": ("heap of the allocator (small blocks)", "分配器的堆（小块内存）"),
    "kind_arenas": ("further arenas of the allocator ({before} → {now})", "分配器的其他 arena（{before} → {now} 个）"),
    "kind_large": ("large blocks", "大块内存"),
    "kind_shared": ("shared memory", "共享内存"),
    "kind_stacks": ("thread stacks", "线程栈"),
    "kind_copied": ("written pages of mapped files", "改写过的文件映射页"),
    "kind_lazy_row": ("of all these, freed but not yet taken back", "以上各项中已释放、尚未收回的部分"),
    "kind_mapped_row": ("mapped files (not judged)", "映射文件（不作判定）"),
    "kind_threads": ("threads", "线程数"),
    "kind_files": ("open files", "打开的文件数"),
    "steps_head": ("Commands for the next step:", "下一步可用的命令："),
    "step_arenas": ("whether it is the allocator: start the service with these, repeat, compare with --baseline",
        "是否由分配器造成：用这些变量启动服务，重跑后用 --baseline 对比"),
    "step_memray": ("which Python code allocates what is kept (needs gdb or lldb)",
        "是哪段 Python 代码分配了没有释放的内存（需要 gdb 或 lldb）"),
    "step_stats_python": ("how much of its heap the allocator holds free: call it within a task of the service",
        "分配器的堆里有多少是空闲的：在服务的任务里调用"),
    "step_heaptrack": ("which native code allocates what is kept (needs gdb)",
        "是哪段原生代码分配了没有释放的内存（需要 gdb）"),
    "step_stats": ("how much of its heap the allocator holds free: written to the service's standard error",
        "分配器的堆里有多少是空闲的：写到服务的标准错误输出"),
    "step_pprof": ("what Go's heap keeps, where the service offers net/http/pprof",
        "Go 的堆里保留了什么（服务需提供 net/http/pprof）"),
    "step_jeprof": ("start the service with this, then: jeprof PROGRAM jeprof.*.heap",
        "用此变量启动服务，然后运行：jeprof PROGRAM jeprof.*.heap"),
    "step_threads": ("what the threads are doing", "各线程在做什么"),
    "step_files": ("which files and connections are open", "打开了哪些文件和连接"),
    "step_gpu_cache": ("whether it is the GPU allocator's cache: call it in the service after each task, repeat, "
        "compare with --baseline",
        "是否是 GPU 分配器的缓存：在服务里每个任务之后调用，重跑后用 --baseline 对比"),
    "step_gpu_fragments": ("whether it is fragmentation on the GPU: start the service with this, repeat, compare with "
        "--baseline",
        "是否是显存碎片：用此变量启动服务，重跑后用 --baseline 对比"),
    "step_redis": ("which keys are large", "哪些键占用大"),
    "tool_there": ("{tool} is installed", "已安装 {tool}"),
    "tool_missing": ("{tool} is not installed", "未安装 {tool}"),
    "col_kind_of": ("kind", "种类"),
    "col_after_cycle": ("after cycle {cycle}, MB", "第 {cycle} 轮之后，MB"),
    "col_per_cycle": ("per cycle", "每轮"),
    "col_gpu": ("GPU", "显卡编号"),
    "col_gpu_name": ("name", "型号"),
    "col_total": ("memory MB", "显存 MB"),
    "col_used_first": ("used at first MB", "开始时已用 MB"),
    "col_used_last": ("used at last MB", "结束时已用 MB"),
    "col_gpu_peak": ("peak MB", "峰值 MB"),
    "col_busy": ("use % min / median / peak", "利用率 %（最小/中位数/峰值）"),
    "col_step": ("what it shows", "用途"),
    "col_command": ("command", "命令"),
    "col_tool": ("on this machine", "本机"),
    "part_ramp": ("Concurrency", "并发"),
    "part_machine": ("Where the machine's memory went", "整机内存去向"),
    "part_loaded": ("Memory under load", "负载下的内存"),
    "loaded_head": ("{size} {size:|task was|tasks were} released together again and again, with settled memory in "
        "between; a cycle is one such round.",
        "反复同时提交 {size} 个任务，每轮之间等内存稳定；一轮即一次。"),
    "part_resources": ("Resources", "资源占用"),
    "part_method": ("How the numbers were measured, and what they do not show", "数据如何采集，以及不能说明什么"),
    "part_input": ("What was read", "读取情况"),
    "part_old": ("A record of an older tool", "旧版工具的记录"),
    "col_what": ("what", "项目"),
    "col_observed": ("observed", "实测"),
    "col_value": ("value", "内容"),
    "col_limit": ("limit", "限值"),
    "col_result": ("result", "结果"),
    "col_why": ("explanation", "说明"),
    "col_before": ("before", "之前"),
    "col_after": ("after", "之后"),
    "col_change": ("change", "变化"),
    "col_role": ("role", "角色"),
    "col_verdict": ("verdict", "结论"),
    "col_rate": ("MB per cycle", "每轮增长 MB"),
    "col_bound": ("at most (upper bound)", "每轮增长上界 MB"),
    "col_first_use": ("first-use growth MB", "首次使用增长 MB"),
    "col_peak": ("peak RSS in the {phase} MB", "{phase}中的 RSS 峰值 MB"),
    "col_cycles": ("cycles judged", "判定轮数"),
    "col_cycle": ("cycle", "轮次（第 0 轮不判定）"),
    "col_clip": ("clip", "音频"),
    "col_rss_before": ("RSS before MB", "任务前 RSS MB"),
    "col_rss_after": ("RSS after MB", "任务后 RSS MB"),
    "col_delta": ("delta MB", "增量 MB"),
    "col_task_peak": ("peak MB", "峰值 MB"),
    "col_rtf": ("RTF", "RTF"),
    "col_settled": ("settled", "已稳定"),
    "col_other_after": ("{role} after MB", "{role} 任务后 MB"),
    "col_jobs": ("jobs", "任务数"),
    "col_peak_gpu": ("peak in the {phase} MB (RSS; of a GPU its memory)", "{phase}中的峰值 MB（RSS；GPU 为显存）"),
    "col_peak_pair": ("peak median / max MB", "峰值（中位数/最大）MB"),
    "col_held_pair": ("held at end median / max MB", "结束时仍占用（中位数/最大）MB"),
    "col_process": ("process", "进程"),
    "col_pid": ("pid", "PID"),
    "col_seen": ("seen from – to", "出现时段"),
    "col_held": ("held at last sample MB", "最后采样时仍占用 MB"),
    "col_task": ("task", "任务"),
    "col_level": ("concurrent tasks", "并发数"),
    "col_ok": ("ok of submitted", "成功/提交"),
    "col_median": ("median s", "完成时间中位数 s"),
    "col_max": ("max s", "最长完成时间 s"),
    "col_rtf_pair": ("RTF median / max", "RTF（中位数/最大）"),
    "col_speed": ("audio-s per s", "吞吐量（音频秒/秒）"),
    "col_memory": ("{role} peak MB", "{role} 峰值 MB"),
    "col_runs": ("runs", "运行次数"),
    "col_state": ("state", "状态"),
    "col_kind": ("kind of failure", "失败类型"),
    "col_count": ("count", "次数"),
    "col_said": ("error as recorded", "报错原文"),
    "col_cpu_trio": ("CPU % min / median / peak", "CPU %（最小/中位数/峰值）"),
    "col_rss_trio": ("RSS MB min / median / peak", "RSS MB（最小/中位数/峰值）"),
    "col_processes": ("processes", "进程数"),
    "col_samples": ("samples", "采样数"),
    "col_length": ("length s", "时长 s"),
    "col_size": ("size MB (10^6 bytes)", "大小 MB（10^6 字节）"),
    "col_tasks": ("tasks", "任务数"),
    "host": ("host", "主机"),
    "cpus": ("CPUs", "CPU 数"),
    "host_memory": ("machine memory", "主机内存"),
    "python": ("Python", "Python"),
    "system": ("system", "系统"),
    "tool_version": ("tool version", "工具版本"),
    "api": ("API", "API"),
    "clips": ("clip lengths", "音频时长"),
    "phase": ("phases", "测试阶段"),
    "phase_all": ("leak phase, concurrency ramp", "泄漏测试、并发测试"),
    "phase_loaded": ("loaded cycles", "负载轮次"),
    "phase_leak": ("leak phase", "泄漏测试"),
    "phase_concurrency": ("concurrency ramp", "并发测试"),
    "when": ("when", "时间"),
    "duration": ("how long", "耗时"),
    "files": ("files", "文件"),
    "repeat": ("To repeat it (the service must be started as it was):",
        "按如下命令可重复本次测试（服务的启动方式需与当时一致）："),
    "whole_minutes": ("{minutes} {minutes:|minute|minutes}", "{minutes} 分钟"),
    "hours": ("{hours} {hours:|hour|hours}", "{hours} 小时"),
    "minutes": ("{minutes} min {seconds} s", "{minutes} 分 {seconds} 秒"),
    "rows_left_out": ("{count} {count:|row in the middle is|rows in the middle are} left out here; the JSONL has them "
        "all.",
        "中间 {count} 行从略，完整数据见 JSONL。"),
    # memory part
    "measure_private": ("Growth is judged on settled private memory (what a process cannot reload from a file); RSS "
        "is shown.",
        "增长按稳定后的私有内存判定（不含可从文件重新载入的部分）；表中显示 RSS。"),
    "measure_rss": ("Growth is judged on settled RSS: private memory was not recorded.",
        "增长按稳定后的 RSS 判定：没有私有内存的记录。"),
    "role_line": ("{role}: {verdict}: {reason}.", "{role}：{verdict}。{reason}。"),
    "rss_suffix": (" (RSS, not private memory)", "（按 RSS，而非私有内存）"),
    "whole_gpu": ("For the {roles} all memory in use on the GPU counts: the driver does not tell whose it is, and "
        "nobody else is seen there.",
        "{roles} 按 GPU 上已用的全部显存计：驱动没有说明其归属，也没有看到其他使用者。"),
    "gpu_limits": ("GPU memory counts in whole blocks of its allocator, which keeps the most that was ever needed: one "
        "jump is normal, and a leak is not seen as long as it fits into what that allocator holds free.",
        "GPU 显存按其分配器的整块计；分配器会保留曾经用过的最大量，因此出现一次跳增属正常，而泄漏在仍容得进其空闲部分"
        "时看不出来。"),
    "first_use_leak": ("The first tasks added {mb:,.1f} MB to the {role}: first use (model and caches), and what "
        "leaked by then.",
        "首次使用（第 0 轮）使 {role} 内存增加 {mb:,.1f} MB：包括首次使用的开销（模型与缓存）和这期间已泄漏的部分。"),
    "first_use_line": ("The first tasks added {mb:,.1f} MB to the {role} (model and caches): that is first use, not "
        "a leak.",
        "首次使用（第 0 轮）使 {role} 内存增加 {mb:,.1f} MB（模型与缓存）：不算泄漏。"),
    "follows_clip": ("The growth follows {clip}.", "增长主要来自 {clip}。"),
    "follows_both": ("The growth follows both clips.", "两种音频都带来增长。"),
    "breaks_line": ("The series of readings is interrupted: {breaks}.", "读数序列被打断：{breaks}。"),
    "memory_unwatched": ("Not found or not watched, so not judged: {roles}.",
        "未找到或未监控，因此未作判定：{roles}。"),
    "break_replaced": ("process ended or replaced in cycle {cycle}", "第 {cycle} 轮进程退出或被替换"),
    "break_failed_task": ("task failed in cycle {cycle}", "第 {cycle} 轮有任务失败"),
    "break_missing_reading": ("no reading in cycle {cycle}", "第 {cycle} 轮缺少读数"),
    "horses_head": ("Work-horses: each job ran in a process of its own, which ended with it. Their memory was "
        "released with them; what counts is whether each holds more than the one before.",
        "任务子进程：每个任务在独立的子进程中运行，结束即退出，所占内存随之归还。关键在于后一个是否比前一个占用更多。"),
    "bands": ("Bands: growth after a long task under 200 MB good, 200 to 500 poor, above 500 bad; RTF under 1.0 "
        "keeps up with speech.",
        "参考：长任务后增量低于 200 MB 为良好，200–500 MB 较差，超过 500 MB 严重；RTF 低于 1.0 才跟得上说话速度。"),
    "alt_memory": ("Chart: memory of each watched process over time", "图：各被监控进程的内存随时间变化"),
    "alt_ramp": ("Chart: throughput and turnaround against concurrent tasks", "图：吞吐量与完成时间随并发数的变化"),
    # the whole machine
    "machine_head": ("The whole machine at rest, at the end of each judged cycle. Processes count with what only they "
        "hold; shared memory counts once, whoever has it open.",
        "各判定轮结束、内存稳定时的整机内存。进程只计其独占部分；共享内存无论多少进程打开都只计一次。"),
    "col_part": ("memory of", "内存去向"),
    "col_first_cycle": ("first cycle MB", "首轮 MB"),
    "col_last_cycle": ("last cycle MB", "末轮 MB"),
    "col_grows": ("growth", "增长情况"),
    "machine_used": ("everything (total less available)", "全部已用（总量减可用）"),
    "machine_watched": ("watched processes", "被监控的进程"),
    "machine_others": ("other processes", "其他进程"),
    "machine_shared": ("shared memory and tmpfs (/dev/shm)", "共享内存与 tmpfs（/dev/shm）"),
    "machine_kernel": ("the kernel", "内核"),
    "machine_rest": ("rest: file pages in use, processes that cannot be seen", "其余：使用中的文件页、看不到的进程"),
    "grows_in_step": ("with the tasks", "随任务增长"),
    "grows_by_itself": ("just as much while no task runs", "没有任务时也同样增长"),
    "machine_unread": ("Not read: {what} ({why}).", "未能读取：{what}（{why}）。"),
    "container_line": ("Container of the {roles} ({path}): limit {limit:,.0f} MB; working set (use that the kernel "
        "cannot take back) {working_set:,.0f} MB at the end, {most:,.0f} MB at most; highest use with file pages "
        "{peak:,.0f} MB; processes killed for lack of memory: {kills}.",
        "{roles} 所在容器（{path}）：上限 {limit:,.0f} MB；不可回收的用量（working set）结束时 {working_set:,.0f} MB，"
        "最高 {most:,.0f} MB；含文件页的最高用量 {peak:,.0f} MB；因内存不足被杀的进程数：{kills}。"),
    "killed_in_container": ("With {at} concurrent {at:|task|tasks} the kernel killed {count} "
        "{count:|process|processes} in the container of the {roles}, whose limit is {limit:,.0f} MB (OOM kill).",
        "并发 {at} 时，{roles} 所在容器（上限 {limit:,.0f} MB）内有 {count} 个进程因内存不足被内核杀掉（OOM kill）。"),
    "reached_container": ("Container limit {limit:,.0f} MB: reached after about {cycles:,} more {cycles:|cycle|cycles} "
        "({tasks:,} {tasks:|task|tasks}, {time} at this pace).",
        "容器上限 {limit:,.0f} MB：按此速度约再过 {cycles:,} 轮（{tasks:,} 个任务，{time}）就会达到。"),
    "reached_machine": ("The {left:,.0f} MB that this machine has left are used up after about {cycles:,} more "
        "{cycles:|cycle|cycles} ({tasks:,} {tasks:|task|tasks}, {time} at this pace).",
        "本机剩余的 {left:,.0f} MB 内存，按此速度约再过 {cycles:,} 轮（{tasks:,} 个任务，{time}）就会用完。"),
    "alt_machine": ("Chart: the whole machine's memory at rest, by whose it is",
        "图：稳定时整机内存的去向"),
    # old records
    "old_head": ("These results come from an older tool. They contain no phase, no peaks, no settled readings, and "
        "the RSS of one process only.",
        "这份结果来自旧版工具：没有阶段、峰值和稳定读数，只记录了一个进程的 RSS。"),
    "old_wrong": ("The process whose memory the results record ({recorded}, at most {mb:,.1f} MB) is not the one that "
        "did the work: the CSV shows {count} short-lived or unrecorded {count:|process|processes} that reached up to "
        "{peak:,.0f} MB and still held up to {held:,.0f} MB at their last sample. The recorded deltas do not show "
        "whether the job leaks.",
        "结果里记录的那个进程（{recorded}，最高 {mb:,.1f} MB）并不是真正执行任务的进程：CSV 显示另有 {count} 个短命或"
        "未被记录的进程，峰值达 {peak:,.0f} MB，最后一次采样时仍占用 {held:,.0f} MB。因此记录中的增量不能说明任务是否"
        "泄漏。"),
    "old_recorded": ("{name}, pid {pid}", "{name}，PID {pid}"),
    "old_unmatched": ("no process of the CSV fits it", "CSV 中找不到对应的进程"),
    "old_no_csv": ("Without a CSV it cannot be checked which process the results describe.",
        "没有 CSV，无法核对结果记录的是哪个进程。"),
    "old_nothing": ("The CSV shows no bigger process, but none that fits the recorded memory either: which process "
        "the results describe is not known.",
        "CSV 中没有更大的进程，但也没有与记录相符的进程：无法确定结果描述的是哪个进程。"),
    "old_trusted": ("The CSV fits the recorded process and shows no bigger one: what the results record is the "
        "process {recorded}.",
        "CSV 与所记录的进程相符，也没有更大的进程：结果记录的就是进程 {recorded}。"),
    "old_can": ("It can show: that these tasks succeeded, how long they took (to the precision of its polling, "
        "which is not recorded), and what the CSV sampled.",
        "能够说明：这些任务成功了、耗时多少（精度取决于未记录的轮询间隔），以及 CSV 采样到的内容。"),
    "old_cannot": ("It cannot show: that there is no leak; peaks between samples; that a level was stable, unless "
        "all its lines are there: refused tasks were dropped from such files.",
        "不能说明：服务没有泄漏；两次采样之间的峰值有多高；某一并发级别是否稳定（除非该级每个任务都有记录，因为旧版"
        "工具会丢弃被拒绝的任务）。"),
    "old_limits": ("Limits are the present defaults; the file names none.", "限值采用当前默认值，文件中没有记录。"),
    "first_sample": ("A process that was there at the first sample may have begun earlier; memory that falls to the "
        "parent's size is an exit, not memory given back.",
        "首次采样时已存在的进程可能更早启动；内存降到父进程大小是子进程退出，不是释放。"),
    # concurrency part
    "state_stable": ("stable", "稳定"),
    "state_flaky": ("flaky: failed, then passed; counted as failed", "时好时坏：先失败、复测通过，按失败计"),
    "state_failed": ("failed", "失败"),
    "state_incomplete": ("incomplete", "不完整"),
    "state_interrupted": ("interrupted", "被中断"),
    "state_reserve": ("less memory free than the reserve", "可用内存低于预留"),
    "state_limited": ("test tool was the limit", "瓶颈在测试工具"),
    "state_slow": ("{state}, RTF 1.0 or more", "{state}，RTF 达到 1.0"),
    "ramp_stable": ("Highest stable level (no failure, no crash): {value}",
        "稳定并发数（到此为止无失败、无进程崩溃）：{value}"),
    "ramp_bound": ("{tasks} {tasks:|task|tasks} there without a failure: the failure rate of a task is below "
        "{percent:.0f} % with 95 % confidence",
        "该级共 {tasks} 个任务无失败：单个任务的失败率低于 {percent:.0f}%（95% 置信度）"),
    "ramp_real_time": ("Highest level in real time (every RTF under 1.0): {value}",
        "快于实时的最高并发数（每个任务 RTF 均低于 1.0）：{value}"),
    "ramp_knee": ("Knee (smallest level within 5 % of the highest throughput, timing error and single outliers set "
        "aside): {value}",
        "吞吐拐点（扣除计时误差、剔除单次突出值之后，达到最高吞吐量 95% 的最小并发数）：{value}"),
    "caches": ("The service caches: {clip}, sent once more, was done after {again:.2f} s, while a new recording of it "
        "takes {usual:.2f} s.",
        "服务有缓存：重复发送同一个 {clip} 只用 {again:.2f} s，而新的录音需要 {usual:.2f} s。"),
    "identical": ("Every upload of {clips} was the same file: what a service keeps per new recording, or caches, "
        "cannot be seen.",
        "每次上传的 {clips} 都是同一个文件：服务按新录音保留的内存或缓存无法看出。"),
    "coarse_polls": ("At the lowest level the polls measure the end of a task with an error of {percent:.0f} % of its "
        "turnaround: the figures are no more precise than that",
        "在最低一级，轮询判断任务完成时刻的误差约为完成时间的 {percent:.0f}%：各项数字也只有这样的精度"),
    "together_slow_page": ("The result page takes up to {seconds:.1f} s to answer, so tasks seem to take at least as "
        "long: whether they ran in parallel was not measured.",
        "结果查询接口最长要 {seconds:.1f} s 才答复，任务看起来就要那么久：是否真正同时处理没有测出。"),
    "knee_slow_polls": ("not measured: the result page is slow to answer", "未测量（结果查询接口答复太慢）"),
    "rates_line": ("{role}: {per_cycle:+,.1f} MB per cycle, {per_task:+,.1f} per task, {per_hour:+,.0f} per hour of "
        "this "
        "load.",
        "{role}：每轮 {per_cycle:+,.1f} MB，每个任务 {per_task:+,.1f} MB，按此负载每小时 {per_hour:+,.0f} MB。"),
    "grows_idle": ("The {role} grows just as fast while no task runs: growth follows time, not tasks.",
        "没有任务时 {role} 也以同样速度增长：随时间增长，而不是随任务增长。"),
    "grown_pid": ("Most of this growth is in process {pid}.", "其中大部分在进程 {pid}。"),
    "small_together": ("with the {roles}, {rate:,.1f} MB per cycle: 1 GB lasts {cycles} {cycles:|cycle|cycles}",
        "连同 {roles} 每轮共 {rate:,.1f} MB，1 GB 可用 {cycles} 轮"),
    "small_lasts": ("that is {time} under this load", "按此负载约合 {time}"),
    "ramp_parallel": ("Effective parallelism (highest throughput over that of one task): {value}",
        "有效并行度（最高吞吐与单任务吞吐之比）：{value}"),
    "no_level_one": ("not measured: level 1 was not run or has no throughput", "未测量（没有并发 1 的有效数据）"),
    "load_hosts": ("{tasks} {tasks:|task was|tasks were} sent by {count} {count:|process|processes} on {machines} "
        "{machines:|machine|machines} ({names}), those of a level from one moment on, which is known within "
        "{error:.1f} ms in the clock of each",
        "{tasks} 个任务由 {machines} 台压测机的 {count} 个进程发送（{names}）；同一级别的任务在同一时刻开始，该时刻在各"
        "压测机时钟上的误差不超过 {error:.1f} ms"),
    "load_lost": ("{count} load {count:|process was|processes were} lost at concurrency {levels} ({names}): "
        "{runs:|that run shows|those runs show} nothing of the service and {runs:|was|were} not counted",
        "并发级别 {levels} 有 {count} 个压测进程失联（{names}）：{runs} 次运行不能说明服务的情况，不予计入"),
    "load_late": ("{count} load {count:|process|processes} did not begin with the others at concurrency {levels} "
        "({names}; the clock was not known within 50 ms, or they began later than that): "
        "{runs:|that run shows|those runs show} nothing of the service and {runs:|was|were} not counted",
        "并发级别 {levels} 有 {count} 个压测进程没有与其他进程同时开始（{names}；时钟误差或迟到超过 50 ms）：{runs} 次"
        "运行不能说明服务的情况，不予计入"),
    "load_overloaded": ("{count} load {count:|process was|processes were} the limit at concurrency {levels} "
        "({names}; CPU, or tasks did not begin together): {runs:|that run shows|those runs show} nothing of the "
        "service and {runs:|was|were} not counted; add load processes or machines",
        "并发级别 {levels} 有 {count} 个压测进程自身成为瓶颈（{names}；CPU 占满，或任务没有同时开始）：{runs} 次运行不"
        "能说明服务的情况，不予计入；请增加压测进程或压测机"),
    "load_clock": ("the wall clock of {name} is {offset:+.3f} s off that of the machine that records; no time in "
        "this report depends on it, but that machine's own logs do",
        "压测机 {name} 的系统时钟与主控机相差 {offset:+.3f} s；本报告中的时间不受影响，但那台机器的日志时间会有同样的"
        "偏差"),
    "incomplete_levels": ("Incomplete levels: {levels}. Tasks without a line may have been refused; such a level is "
        "not called stable.",
        "不完整的级别：{levels}。缺少记录的任务可能是被拒绝了，这样的级别不能算稳定。"),
    "breach": ("What failed first, with {level} concurrent {level:|task|tasks}: {what}; task: {task}; observed: "
        "{observed}; limit: {limit}",
        "最先出现的问题：并发 {level}，{what}；任务：{task}；观测到：{observed}；限值：{limit}"),
    "breach_short": ("with {level} concurrent {level:|task|tasks}: {what}: {observed}",
        "并发 {level} 时，{what}：{observed}"),
    "megabytes": ("{mb:,.0f} MB of memory free", "可用内存 {mb:,.0f} MB"),
    "lines": ("{count} {count:|line|lines}", "{count} 行"),
    "no_breach": ("Nothing failed in the ramp: no task failed, no process crashed, no RTF limit was reached",
        "并发测试没有出现问题：无任务失败，无进程崩溃，也未触及 RTF 上限"),
    "kind": ("{meaning} ({name})", "{meaning}（{name}）"),
    "kind_submit_refused": ("connection refused", "连接被拒绝"),
    "kind_submit_timeout": ("submission not answered in time", "提交后未按时得到答复"),
    "kind_submit_reset": ("connection broke during submission", "提交时连接断开"),
    "kind_submit_http": ("submission not accepted", "提交未被受理"),
    "kind_bad_response": ("unusable answer", "答复不符合约定"),
    "kind_task_failed": ("task failed", "任务失败"),
    "kind_task_lost": ("task unknown to the service", "服务查无此任务"),
    "kind_task_timeout": ("task not done in time", "任务超时"),
    "kind_stalled": ("no progress", "任务毫无进展"),
    "kind_worker_died": ("worker or its work-horse crashed", "worker 或其任务子进程崩溃"),
    "kind_gpu_oom": ("GPU out of memory", "GPU 显存不足"),
    "kind_out_of_memory": ("service out of memory", "服务内存不足"),
    "kind_interrupted": ("test interrupted", "测试被中断"),
    "kind_process_died": ("service process crashed", "服务进程崩溃"),
    "kind_memory_reserve": ("less memory was free than the reserve", "可用内存低于预留"),
    "kind_rtf_limit": ("RTF reached its limit", "RTF 达到上限"),
    "kind_incomplete": ("results missing", "结果不完整"),
    "kind_tool_fault": ("fault of the test tool", "测试工具自身出错"),
    "kind_load_host_lost": ("load machine lost", "压测机失联"),
    "no_reason": ("the service gives no reason", "服务没有给出原因"),
    "fact_stalled_idle_s": ("no progress for {idle_s} s while every worker was idle (if a worker may wait so long for "
        "another machine, raise --stall-timeout)",
        "所有 worker 都空闲，{idle_s} 秒没有任何进展（若 worker 确实要这么久等待另一台机器，请调大 --stall-timeout）"),
    "fact_worker_died_pid": ("worker process {pid} ({name}) ended", "worker 进程 {pid}（{name}）退出"),
    "fact_worker_died_idle_s": ("no progress for {idle_s} s since", "此后 {idle_s} 秒没有任何进展"),
    "fact_workers_left_0": ("no worker is left", "已没有 worker"),
    "fact_retry_after_s": ("asks to come back after {retry_after_s} s", "要求 {retry_after_s} 秒后再来"),
    "fact_limit_s": ("not done after {limit_s} s", "{limit_s} 秒后仍未完成"),
    "fact_last_seen": ("last seen {last_seen}", "最后一次查询时状态为 {last_seen}"),
    "fact_exchange_ended_false": ("the exchange with the API never ended", "与 API 的通信始终没有结束"),
    "fact_sent_false": ("the test was interrupted before this task was sent", "测试在提交此任务之前被中断"),
    "fact_sent_true": ("the test was interrupted before this task ended", "测试在此任务结束之前被中断"),
    "fact_task_lost_task_id": ("accepted as {task_id}, which the service no longer knows (404)",
        "已受理为 {task_id}，但服务已查无此任务（404）"),
    "fact_why_lost": ("its load machine was lost", "负责此任务的压测机失联"),
    "fact_why_no_user": ("its load machine had no user for it", "压测机上没有可用的用户来发送此任务"),
    "fact_problem": ("{problem}", "{problem}"),
    "problem_not JSON": ("the answer is not JSON", "答复不是 JSON"),
    "problem_not a JSON object": ("the answer is not a JSON object", "答复不是 JSON 对象"),
    "problem_empty answer": ("the answer is empty", "答复为空"),
    "problem_cannot be decoded": ("the answer cannot be decoded", "答复无法解码"),
    "failures_head": ("Failures, all phases:", "失败汇总（全部阶段）："),
    "no_failures": ("No task failed.", "没有任务失败。"),
    "empty_text": ("{count} {count:|task was|tasks were} done without a word of text: a silent failure, or clips "
        "without speech, which prove nothing.",
        "有 {count} 个任务返回成功但文本为空：可能是静默失败，也可能音频中没有语音，都不足为证。"),
    # resources and method
    "no_resources": ("No samples: {why}", "没有采样数据。{why}。"),
    "gaps_none": ("{file}: {samples:,} {samples:|sample|samples}, one every {interval} s (median); no gap of more "
        "than {limit:g} s.",
        "{file}：共 {samples:,} 次采样，间隔中位数 {interval} s；没有超过 {limit:g} s 的空缺。"),
    "gaps_some": ("{file}: {samples:,} {samples:|sample|samples}, one every {interval} s (median); {count} "
        "{count:|gap|gaps} of more than {limit:g} s, the longest {longest:.1f} s.",
        "{file}：共 {samples:,} 次采样，间隔中位数 {interval} s；超过 {limit:g} s 的空缺 {count} 处，最长 "
        "{longest:.1f} s。"),
    "method_rss": ("MB of memory are MiB. RSS counts pages that processes share once in each of them, so a sum over "
        "forked processes can be too high.",
        "内存单位 MB 指 MiB。RSS 会把共享页在每个进程中各计一次，因此多个 fork 进程相加可能偏高。"),
    "method_tree": ("A role is the sum over all its process trees. When a work-horse ends, its memory is released: "
        "such a fall is an exit, not memory given back by the service.",
        "每个角色的数值是其全部进程树之和。子进程退出会带走自己的内存：这种下降是退出，不是释放。"),
    "method_cpu": ("CPU is percent of one core; the value of a short-lived process is over its age.",
        "CPU 以单核百分比计；短命进程的数值按其存活时间平均。"),
    "method_samples": ("The CSV shows one moment per sample and misses what happens in between; peaks of tasks come "
        "from the kernel's high-water mark where the results contain it.",
        "CSV 每次采样只反映一个瞬间，会漏掉间隔内的变化；任务峰值取自内核的高水位记录（结果中有时）。"),
    "method_time": ("Turnaround runs from the common release of a level to the poll that saw the task done; the "
        "timing error is in the JSONL (time_error).",
        "完成时间从同一并发级别的任务统一开始提交时算起，到轮询看到任务完成为止；计时误差见 JSONL 的 time_error。"),
    "method_queue": ("A queue accepts everything: success of N concurrent tasks does not mean that N ran in parallel, "
        "so limit, real-time limit and knee are given separately.",
        "队列来者不拒：N 个任务都成功不代表 N 个同时在处理，因此分别给出稳定并发数、快于实时的最高并发数和吞吐拐点。"),
    "method_bound": ("The growth rule judges after every cycle, so read its bounds as about 95 %.",
        "增长规则每轮都会重新判断一次，因此其上界应按约 95% 的置信度理解。"),
    "read_lines": ("{file}: {lines} {lines:|line|lines}, {results} {results:|result|results}",
        "{file}：{lines} 行，{results} 条结果"),
    "read_skipped": ("skipped: {count} × {why}", "跳过：{count} × {why}"),
    "skip_not_json": ("not JSON", "不是 JSON"),
    "skip_no_object": ("not a JSON object", "不是 JSON 对象"),
    "skip_too_large": ("nested too deep, or a number too large", "嵌套过深，或数值过大"),
    "skip_id_twice": ("test_id used twice", "test_id 重复"),
    "skip_pending": ("the pending result cannot be read", "待写入的结果无法读取"),
    "skip_unknown": ("unknown phase or status", "phase 或 status 的值未知"),
    "skip_missing": ("{name} is missing", "缺少 {name}"),
    "skip_impossible": ("{name} has a value that no run can have", "{name} 的值不可能出现"),
    "skip_range": ("{name} is out of range", "{name} 超出范围"),
    "skip_wrong": ("{name} is {value}", "{name} 的值有误：{value}"),
    "read_duplicates": ("{count} {count:|line appears twice and counts|lines appear twice and count} once",
        "{count} 行重复，只计一次"),
    "read_missing": ("{count} "
        "{count:|result is missing: its running number is|results are missing: their running numbers are} in no line",
        "缺少 {count} 条结果：其流水号没有出现在任何一行"),
    "pending_joined": ("the test ended before the line of {task} was written; the result was taken from {file}",
        "测试结束时 {task} 的那一行还没有写入；该结果取自 {file}"),
    "pending_unsettled": ("the test ended before the line of {task} was written; the result was taken from {file}, "
        "and its settled memory is missing",
        "测试结束时 {task} 的那一行还没有写入；该结果取自 {file}，缺少任务后的稳定内存读数"),
    "pending_unreadable": ("{file} cannot be read: the last result before the test ended is lost",
        "{file} 无法读取：测试结束前的最后一条结果已丢失"),
    "settings_lost": ("the line with the settings is missing: the limits are the defaults",
        "缺少记录设置的那一行：限值采用默认值"),
    "old_memory_zero": ("memory is 0 in every line, so it was not measured", "每一行的内存都是 0，说明没有测到"),
    "csv_missing": ("{file} is not in the folder of the results: there is no chart over time, and gaps in the "
        "sampling cannot be seen",
        "结果文件所在目录中没有 {file}，因此无法绘制内存随时间变化的图，也无法检查采样空缺"),
    "not_watched": ("processes were not watched (--no-watch), so there is no CSV",
        "没有监控进程（--no-watch），因此没有 CSV"),
    "csv_empty": ("{file} holds no sample that can be read ({skipped} {skipped:|row|rows} skipped)",
        "{file} 中没有可读的采样（跳过 {skipped} 行）"),
    "csv_other_run": ("{file} was recorded at another time than the results and was left out",
        "{file} 与结果不是同一时段，未予采用"),
    "csv_skipped": ("{file}: {rows} {rows:|row|rows} read, {skipped} skipped (torn, garbage or back in time)",
        "{file}：读取 {rows} 行，跳过 {skipped} 行（残缺、乱码或时间倒退）"),
    "gpu_csv_skipped": ("{file}: {skipped} {skipped:|row|rows} skipped (torn or garbage)",
        "{file}：跳过 {skipped} 行（残缺或乱码）"),
    "csv_clock": ("{file}: the wall clock jumped {jumps} {jumps:|time|times} against the monotonic clock; elapsed "
        "seconds are used",
        "{file}：系统时钟相对单调时钟跳变 {jumps} 次；以单调时间为准"),
    "csv_short": ("{file} ends {seconds:,.0f} s before the last result: it was cut off",
        "{file} 在最后一条结果之前 {seconds:,.0f} s 就结束了：文件被截断"),
    "chart_off": ("No charts: left out with --no-charts.", "未生成图表：使用了 --no-charts。"),
    "chart_no_matplotlib": ("No charts: matplotlib is not installed (pip install matplotlib).",
        "未生成图表：没有安装 matplotlib（pip install matplotlib）。"),
    "chart_no_font": ("Chart labels are English: this machine has no font with Chinese characters (apt install "
        "fonts-noto-cjk).",
        "图中文字为英文：本机没有含中文字形的字体（可安装 fonts-noto-cjk）。"),
    # comparison
    "fix_shown": ("The fix is proven for the {role}: {old} before ({before:,.1f} MB per cycle), {new} now (no growth "
        "above {after:,.1f} MB per cycle){delta}.",
        "修复得到证实：{role} 之前{old}（每轮增长 {before:,.1f} MB），现在{new}（每轮增长不超过 {after:,.1f} "
        "MB）{delta}。"),
    "fix_delta": ("; a long task left {before:,.1f} MB in the {role} before and leaves {after:,.1f} MB now",
        "；每个长任务在 {role} 中留下的内存，之前为 {before:,.1f} MB，现在为 {after:,.1f} MB"),
    "fix_hours": ("Recordings without tasks do not prove a fix: before: {before}; now: {after}.",
        "没有任务的采样记录不能证实修复。之前：{before}；现在：{after}。"),
    "fix_no_proof": ("the run now proves nothing as a whole", "这次测试整体上不足为证"),
    "fix_other_cycles": ("growth is that of other cycles ({before} before, {after} now)",
        "两次测试的轮次不同（之前 {before}，现在 {after}）"),
    "fix_fewer_hosts": ("fewer hosts were watched ({before} before, {after} now)",
        "监控的主机变少了（之前 {before} 台，现在 {after} 台）"),
    "fix_shorter_clips": ("the longest clip is shorter ({before:,.0f} s before, {after:,.0f} s now)",
        "最长的音频变短了（之前 {before:,.0f} s，现在 {after:,.0f} s）"),
    "fix_slower": ("it surely still grows, by {after:,.1f} MB per cycle ({before:,.1f} before): slower, though under "
        "the tolerance",
        "它确定仍在增长，每轮 {after:,.1f} MB（之前 {before:,.1f} MB）：只是变慢了，虽未超过容差"),
    "rate_per_hour": ("{role} growth, MB per hour", "{role} 每小时增长 MB"),
    "fix_allocator": ("It was the allocator: with {tuned} the {role} does not grow by more than {after:,.1f} MB per "
        "cycle, {before:,.1f} before. Nothing is kept; start the service with these variables.",
        "是分配器造成的：设置 {tuned} 之后，{role} 每轮增长不超过 {after:,.1f} MB，之前为 {before:,.1f} MB。并没有未释"
        "放的内存；请保留这些变量。"),
    "fix_not_allocator": ("It was not the allocator: with {tuned} the {role} grows by {rate:,.1f} MB per cycle, "
        "{before:,.1f} before. Look for what is kept.",
        "不是分配器造成的：设置 {tuned} 之后，{role} 每轮仍增长 {rate:,.1f} MB，之前为 {before:,.1f} MB。请查找没有释放"
        "的内存。"),
    "fix_part_allocator": ("It was the allocator in part: with {tuned} the {role} grows by {rate:,.1f} MB per cycle, "
        "{before:,.1f} before. What is left is kept.",
        "部分由分配器造成：设置 {tuned} 之后，{role} 每轮增长 {rate:,.1f} MB，之前为 {before:,.1f} MB。其余是没有释放的"
        "内存。"),
    "fix_doubt": ("The fix is not proven for the {role}, though its verdict was {old} and is {new} now: {why}.",
        "{role} 的结论之前为“{old}”，现在为“{new}”，但修复尚未得到证实：{why}。"),
    "fix_same_rate": ("growth of up to {bound:.1f} MB per cycle is not excluded now, no less than {rate:.1f} before",
        "现在仍不能排除每轮最多 {bound:.1f} MB 的增长，并不低于之前的 {rate:.1f} MB"),
    "fix_other_leaks": ("The {role}: {new} now, {old} before, but the {others} leaks: the service as a whole is not "
        "fixed.",
        "{role} 现在{new}（之前{old}），但 {others} 有泄漏：服务整体尚未修好。"),
    "fix_not_shown": ("The leak of the {role} is still there: {before:,.1f} MB per cycle before, {rate:,.1f} "
        "now{delta}.",
        "{role} 的泄漏仍在：之前每轮增长 {before:,.1f} MB，现在每轮增长 {rate:,.1f} MB{delta}。"),
    "fix_new_leak": ("A new leak: the {role} did not leak before and grows by {rate:,.1f} MB per cycle now.",
        "新出现的泄漏：{role} 之前没有泄漏，现在每轮增长 {rate:,.1f} MB。"),
    "fix_still_leaks": ("The {role} leaks now ({rate:,.1f} MB per cycle); the run before is no evidence either way "
        "({old}).",
        "{role} 现在有泄漏（每轮增长 {rate:,.1f} MB）；上一次测试的结论为“{old}”，不能作为对比依据。"),
    "fix_both_clean": ("Neither run leaks: there is nothing that the change could have fixed; the {role} does not "
        "grow by more than {after:,.1f} MB per cycle now.",
        "两次测试都没有泄漏，谈不上修复；{role} 现在每轮增长不超过 {after:,.1f} MB。"),
    "fix_unproven": ("The {role} does not leak now (no growth above {after:,.1f} MB per cycle), but the run before "
        "does not prove a leak ({old}), so the runs do not show that the change removed one.",
        "{role} 现在没有泄漏（每轮增长不超过 {after:,.1f} MB），但上一次测试没有证实存在泄漏（结论为“{old}”），因此"
        "不能证明泄漏是这次改动消除的。"),
    "fix_open": ("The fix is not proven for the {role}: {new} now, {old} before.",
        "修复尚未得到证实：{role} 本次的结论为“{new}”，之前为“{old}”。"),
    "differs": ("The runs differ in {what} ({before} before; {after} now): the change may be due to that.",
        "两次测试的“{what}”不同（之前 {before}，现在 {after}）：变化可能由此造成。"),
    "differs_old": ("One of the runs is an older tool's record: it contains the memory of one process and leaves out "
        "refused tasks.",
        "其中一次是旧版工具的记录：只有一个进程的内存，且丢弃了被拒绝的任务。"),
    "differs_order": ("The run before did not begin before the run after: are they swapped, or the same?",
        "“之前”的测试并不早于“之后”的测试：是否颠倒了，或是同一次测试？"),
    "fix_run": ("Before: {before} ({began_before}); after: {after} ({began_after})",
        "之前：{before}（{began_before}）；之后：{after}（{began_after}）"),
    "rate": ("{role} growth, MB per cycle", "{role} 每轮增长 MB"),
    "bound": ("upper bound of the {role}'s growth, MB per cycle", "{role} 每轮增长的上界 MB"),
    "first_use": ("{role} first-use growth, MB", "{role} 首次使用增长 MB"),
    "peak": ("{role} peak RSS, MB", "{role} RSS 峰值 MB"),
    "rtf_median": ("RTF in the leak phase, median", "泄漏测试 RTF 中位数"),
    "max_stable": ("highest stable level", "稳定并发数"),
    "max_real_time": ("highest level in real time", "快于实时的最高并发数"),
    "knee": ("knee", "吞吐拐点"),
    "leak_verdict": ("leak verdict of the {role}", "{role} 泄漏结论"),
    "verdict": ("verdict of the run", "总体结论"),
    # charts
    "axis_memory": ("RSS, MB", "RSS（MB）"),
    "axis_machine": ("memory at rest, MB", "稳定时的内存（MB）"),
    "axis_seconds": ("time, s", "时间（秒）"),
    "axis_minutes": ("time, min", "时间（分钟）"),
    "axis_hours": ("time, h", "时间（小时）"),
    "axis_level": ("concurrent tasks", "并发数"),
    "axis_speed": ("audio s per s", "吞吐量（音频秒/秒）"),
    "axis_turnaround": ("turnaround, s", "完成时间（秒）"),
    "key_short_lived": ("{role}: {count} short-lived or further {count:|process|processes}",
        "{role}：{count} 个短命或其他进程"),
    "key_sum": ("{role}, all processes", "{role} 合计"),
    "key_task": ("task running", "任务运行中"),
    "key_settled": ("{role}, settled reading", "{role} 稳定读数"),
    "key_median": ("median", "完成时间中位数"),
    "key_max": ("slowest", "最长完成时间"),
    "key_speed": ("throughput", "吞吐量"),
    "key_knee": ("knee ({n})", "吞吐拐点（{n}）"),
    "key_limit": ("highest stable ({n})", "稳定并发数（{n}）"),
    "key_real_time": ("RTF 1.0", "RTF 1.0"),
    "key_unstable": ("not stable", "不稳定"),
    # terminal
    "report_at": ("report: {file}", "报告：{file}"),
    # what cannot be judged at all
    "no_samples": ("{file} holds no samples: expected the columns {columns}.",
        "{file} 中没有采样：应有 {columns} 各列。"),
    "no_results": ("{file} holds no test result ({lines} {lines:|line|lines}). Name the .jsonl of a run; for its "
        "resources alone, name its CSV.",
        "{file} 中没有测试结果（{lines} 行）。请给出一次测试的 .jsonl；若只看资源占用，请给出其 CSV。"),
    "no_results_because": ("{file} holds no test result ({lines} {lines:|line|lines}: {why}). Name the .jsonl of a "
        "run; for its resources alone, name its CSV.",
        "{file} 中没有测试结果（{lines} 行：{why}）。请给出一次测试的 .jsonl；若只看资源占用，请给出其 CSV。"),
    "skipped_lines": ("{count} {why}", "{count} × {why}"),
    "cannot_read": ("{file} cannot be read: {why}.", "{file} 无法读取：{why}。"),
    "cannot_write": ("The report cannot be written to {file} ({why}); name another with --output.",
        "无法把报告写到 {file}（{why}）；请用 --output 指定其他位置。"),
    # why a leak verdict is what it is
    "reason_steady_growth": ("grew by {slope:.1f} MB per cycle (at least {low:.1f}) over the last {window} of "
        "{cycles} cycles, {grown:,.0f} MB in all, and does not slow down; a cache larger than that looks the same: "
        "continue with --min-cycles {longer}",
        "在全部 {cycles} 轮中，最近 {window} 轮平均每轮增长 {slope:.1f} MB（至少 {low:.1f}），累计 {grown:,.0f} MB，"
        "没有停止的迹象；容量比这更大的缓存看起来也是这样：可用 --min-cycles {longer} 继续"),
    "reason_fast_growth": ("grew by {slope:.1f} MB per cycle (at least {low:.1f}), in every one of {window} cycles by "
        "{smallest_step:.1f} or more, {grown:,.0f} MB in all, and does not slow down; a cache larger than that, or a "
        "heap collected later, looks the same: continue with --min-cycles {longer}",
        "最近 {window} 轮平均每轮增长 {slope:.1f} MB（至少 {low:.1f}），每一轮都不少于 {smallest_step:.1f} MB，累计 "
        "{grown:,.0f} MB，没有停止的迹象；容量比这更大的缓存，或更晚才回收的堆，看起来也是这样：可用 --min-cycles "
        "{longer} 继续"),
    "reason_horses_leak": ("each job on {clip} held {slope:.1f} MB more when it ended than the job before (at least "
        "{low:.1f}), although each had its own process: what a job loads keeps growing",
        "处理 {clip} 的每个任务子进程结束时都比前一个多占 {slope:.1f} MB（至少 {low:.1f}）：虽然各在独立进程中运行，"
        "加载的内容却越来越多"),
    "reason_ramp_leak": ("grew by {per_task:.1f} MB per task whenever a level of the ramp was run again ({repeats} "
        "{repeats:|time|times}, {tasks} {tasks:|task|tasks}; by at least {least:.1f} on all hosts together): a "
        "high-water mark would not grow",
        "并发测试每次重跑同一级都继续增长，每个任务 {per_task:.1f} MB（共重跑 {repeats} 次、{tasks} 个任务；各主机合计"
        "至少 {least:.1f} MB）：高水位不会这样增长"),
    "reason_no_growth": ("no growth above {high:.1f} MB per cycle over the last {window} of {cycles} cycles: 1 GB "
        "of free memory lasts at least {cycles_per_gb} {cycles_per_gb:|cycle|cycles}; jumps rarer than one in "
        "{rarest:.1f} cycles cannot be excluded",
        "在全部 {cycles} 轮中，最近 {window} 轮每轮增长不超过 {high:.1f} MB，即 1 GB 空闲内存至少可用 "
        "{cycles_per_gb} 轮；但不能排除平均 {rarest:.1f} 轮以上才出现一次的跳增"),
    "reason_small_growth": ("grows by {slope:.1f} MB per cycle, surely more than {low:.1f} and less than {high:.1f}: "
        "under the tolerance of {tolerance:g}; 1 GB of free memory lasts {cycles_per_gb} "
        "{cycles_per_gb:|cycle|cycles}",
        "每轮增长 {slope:.1f} MB，确定高于 {low:.1f}、低于 {high:.1f}，未超过容差 {tolerance:g}；1 GB 空闲内存可用 "
        "{cycles_per_gb} 轮"),
    "reason_fork_per_job": ("each job had its own process, so memory cannot accumulate between jobs; the worker that "
        "forks them did not grow by more than {high:.1f} MB per cycle over the last {window} of {cycles} cycles",
        "每个任务在独立进程中运行，内存不会跨任务累积；外层 worker 在全部 {cycles} 轮中，最近 {window} 轮每轮增长不超"
        "过 {high:.1f} MB"),
    "reason_too_few": ("{cycles} {cycles:|reading is|readings are} too few: at least {more} more needed",
        "只有 {cycles} 个读数，至少还需要 {more} 个"),
    "reason_unconfirmed": ("grew by {slope:.1f} MB per cycle (at least {low:.1f}) over the last {window} cycles: "
        "{needed} cycles or more are needed to distinguish a leak from a warm-up",
        "最近 {window} 轮平均每轮增长 {slope:.1f} MB（至少 {low:.1f}）：要区分泄漏与预热，需要 {needed} 轮或更多"),
    "reason_one_jump": ("most of the growth of {net:.1f} MB is one jump of {step:.1f} MB: more cycles show whether it "
        "happens again",
        "{net:.1f} MB 的增长中有一次跳增 {step:.1f} MB：需要更多轮次看它是否再次出现"),
    "reason_slowing_down": ("growth slows down, from {earlier:.1f} to {now:.1f} MB per cycle: it may be a warm-up "
        "or the allocator's arenas; run more cycles, or start the service with MALLOC_ARENA_MAX=2",
        "增长在放缓，每轮从 {earlier:.1f} MB 降到 {now:.1f} MB：可能是预热，也可能是内存分配器的 arena；请增加轮数"
        "，或以 MALLOC_ARENA_MAX=2 启动服务"),
    "reason_swings": ("memory goes up and down: a fall of {fall_back:.1f} MB within a growth of {net:.1f} MB; look "
        "for caches and garbage collection, or run more cycles",
        "内存有涨有落：净增 {net:.1f} MB 期间曾回落 {fall_back:.1f} MB；请检查缓存与垃圾回收，或增加轮数"),
    "reason_rises_not_over": ("at most {high:.1f} MB per cycle at the end, but memory last rose {since} "
        "{since:|cycle|cycles} ago ({jumps} {jumps:|time|times}, {size:.1f} MB on average): whether it has stopped "
        "can be seen after {enough} cycles in all",
        "末段每轮增长不超过 {high:.1f} MB，但 {since} 轮前内存还上升过（共 {jumps} 次，平均 {size:.1f} MB）：是否已经"
        "停止，总共要 {enough} 轮才能看出"),
    "reason_too_noisy": ("growth is between {low:.1f} and {high:.1f} MB per cycle: readings vary by {sd:.1f} MB, "
        "which needs about {enough} cycles in all",
        "每轮增长在 {low:.1f} 至 {high:.1f} MB 之间：读数波动达 {sd:.1f} MB，总共约需 {enough} 轮才能判定"),
    "reason_replaced": ("its processes were replaced in {times} {times:|cycle|cycles} (last in cycle {cycle}), and "
        "growth within their lifetimes is not decided after {cycles} {cycles:|reading|readings}",
        "其进程在 {times} 轮中被替换（最后一次在第 {cycle} 轮），进程存活期间的增长在 {cycles} 个读数之后仍无法判定"),
    "reason_recycled_leak": ("keeps {per_task:,.1f} MB per task while its processes run ({slope:.1f} MB per cycle, at "
        "least {low:.1f}); recycling contains it: replaced in {times} {times:|cycle|cycles}, after about {tasks:g} "
        "tasks each, at most {contained:+,.0f} MB above first use",
        "进程存活期间每个任务保留 {per_task:,.1f} MB（每轮 {slope:.1f} MB，至少 {low:.1f}）；回收进程使其不再累积：有"
        " {times} 轮发生替换，每个进程约处理 {tasks:g} 个任务，比首次使用后最多多占 {contained:+,.0f} MB"),
    "reason_recycled_calm": ("no growth above {high:.1f} MB per cycle while its processes run; they were replaced in "
        "{times} {times:|cycle|cycles}, after about {tasks:g} tasks each",
        "进程存活期间每轮增长不超过 {high:.1f} MB；有 {times} 轮发生替换，每个进程约处理 {tasks:g} 个任务"),
    "reason_failing_growth": ("grew by {slope:.1f} MB per cycle over {cycles} {cycles:|cycle|cycles} in which tasks "
        "failed: too few for a verdict",
        "在有任务失败的 {cycles} 轮中平均每轮增长 {slope:.1f} MB：轮数太少，无法判定"),
    "reason_failed_task": ("a task failed in cycle {cycle}: {cycles} {cycles:|reading|readings} in a row since "
        "then, {more} more needed",
        "第 {cycle} 轮有任务失败；此后只有 {cycles} 个连续读数，还需要 {more} 个"),
    "reason_missing_reading": ("cycle {cycle} has no reading: {cycles} {cycles:|reading|readings} in a row since "
        "then, {more} more needed",
        "第 {cycle} 轮缺少读数；此后只有 {cycles} 个连续读数，还需要 {more} 个"),
    "reason_missing_growth": ("it grew by about {slope:.1f} MB per cycle while readings were missing (last in cycle "
        "{cycle}): run the test again",
        "在缺少读数的轮次中每轮增长约 {slope:.1f} MB（最后一次是第 {cycle} 轮）：请重新测试"),
    "reason_unsettled": ("memory did not settle before {unsettled} of {cycles} {cycles:|reading|readings}: let nobody "
        "else use the service, or raise --settle-timeout",
        "{cycles} 次读数中有 {unsettled} 次内存没有稳定下来：请避免其他负载，或调大 --settle-timeout"),
    "reason_sampler_gap": ("memory was not sampled for {gap_s:.1f} s: a process may have ended and restarted unnoticed",
        "内存有 {gap_s:.1f} s 未被监控：期间可能有进程退出后又重启而未被察觉"),
    "reason_horses_growing": ("each job on {clip} held {slope:.1f} MB more when it ended than the job before, in "
        "{cycles} {cycles:|job|jobs}: more cycles show whether that continues",
        "处理 {clip} 的每个任务子进程结束时都比前一个多占 {slope:.1f} MB，共 {cycles} 个任务：需要更多轮次看是否持续"),
    "afterwards_kept": ("; decided after cycle {said_at}; the {later} "
        "{later:|cycle since then does|cycles since then do} not contradict it",
        "；第 {said_at} 轮后作出此结论，其后 {later} 轮的读数与之不矛盾"),
    "afterwards_revoked": ("; after cycle {revoked_at} the verdict was {revoked}, which later readings contradict",
        "；第 {revoked_at} 轮后曾判为 {revoked}，其后的读数与之矛盾"),
    "reason_not_measured": ("the memory of this role was never read", "没有读到该角色的内存"),
    "reason_no_work": ("its processes used no more CPU while tasks ran than when idle ({worked} of {tasks} tasks show "
        "work): another process did the work",
        "任务运行时其进程的 CPU 用量并不高于空闲时（{tasks} 个任务中只有 {worked} 个显示有工作）：真正执行任务的是别"
        "的进程"),
    "reason_no_work_other": ("its processes used no more CPU while tasks ran than when idle ({worked} of {tasks} "
        "tasks show work): the work seems to be done by process {pid} ({name}), see --watch and --pid",
        "任务运行时其进程的 CPU 用量并不高于空闲时（{tasks} 个任务中只有 {worked} 个显示有工作）：真正执行任务的似乎"
        "是进程 {pid}（{name}），请用 --watch 或 --pid 指定"),
    "reason_wrong_process": ("the results record a process of at most {recorded:,.1f} MB, while others that did the "
        "work reached {peak:,.0f} MB",
        "结果记录的进程最多只有 {recorded:,.1f} MB 内存，而真正执行任务的其他进程峰值达 {peak:,.0f} MB"),
    "reason_unwatched_shared": ("memory outside the watched processes grew by {rate:,.1f} MB per cycle, theirs by "
        "{held:,.1f}: {place} grew from {before:,.0f} to {after:,.0f} MB",
        "被监控进程之外的内存每轮增长 {rate:,.1f} MB，进程自身每轮 {held:,.1f} MB：{place} 从 {before:,.0f} MB 增长到 "
        "{after:,.0f} MB"),
    "reason_unwatched_shared_anywhere": ("memory outside the watched processes grew by {rate:,.1f} MB per cycle, "
        "theirs by {held:,.1f}: shared memory or tmpfs grew from {before:,.0f} to {after:,.0f} MB",
        "被监控进程之外的内存每轮增长 {rate:,.1f} MB，进程自身每轮 {held:,.1f} MB：共享内存或 tmpfs 从 {before:,.0f} "
        "MB 增长到 {after:,.0f} MB"),
    "reason_unwatched_process": ("an unwatched process grew with the tasks: {program} (pid {pid}), {rate:,.1f} MB per "
        "cycle, from {before:,.0f} to {after:,.0f} MB; watch it with --watch or --pid",
        "有未监控的进程随任务增长：{program}（PID {pid}），每轮 {rate:,.1f} MB，从 {before:,.0f} MB 增长到 "
        "{after:,.0f} MB；请用 --watch 或 --pid 监控"),
    "reason_unwatched_processes": ("unwatched processes grew with the tasks: {count} named {name} (the largest: "
        "{program}, pid {pid}), {rate:,.1f} MB per cycle, from {before:,.0f} to {after:,.0f} MB; watch them with "
        "--watch or --pid",
        "有未监控的进程随任务增长：{count} 个 {name}（最大的是 {program}，PID {pid}），每轮 {rate:,.1f} MB，从 "
        "{before:,.0f} MB 增长到 {after:,.0f} MB；请用 --watch 或 --pid 监控"),
    "reason_unwatched_others": ("unwatched processes of several names grew with the tasks by {rate:,.1f} MB per cycle, "
        "from {before:,.0f} to {after:,.0f} MB in all",
        "多个不同名称的未监控进程随任务增长，每轮 {rate:,.1f} MB，合计从 {before:,.0f} MB 增长到 {after:,.0f} MB"),
    "reason_unwatched_kernel": ("the kernel's own memory grew with the tasks by {rate:,.1f} MB per cycle, from "
        "{before:,.0f} to {after:,.0f} MB: sockets, files or page tables that stay (slabtop shows which)",
        "内核自身的内存随任务增长，每轮 {rate:,.1f} MB，从 {before:,.0f} MB 增长到 {after:,.0f} MB：可能是没有释放的 "
        "socket、文件或页表（可用 slabtop 查看）"),
    "reason_gap_unknown": ("neither the record nor a CSV shows whether memory was sampled all the time: judge the run "
        "with its CSV (--resources)",
        "记录和 CSV 都无法说明内存是否有一段时间未被监控：请连同 CSV 一起判定（--resources）"),
    "reason_old_record": ("an older tool's record shows neither which process it measured nor whether memory had "
        "settled",
        "旧版工具的记录既没有说明测的是哪个进程，也没有说明内存是否已稳定"),
}
