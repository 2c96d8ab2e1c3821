"""The words of a report in English and in Chinese, side by side: a key without one of them cannot be written down."""

from collections.abc import Mapping
from dataclasses import dataclass

from bakeoff.errors import RecipeError
from bakeoff.reports import words_of_pictures

LANGUAGES = ("en", "zh")

TEXTS: Mapping[str, tuple[str, str]] = {
    # The head of the page.
    "study": ("Study", "研究"),
    "skip": ("Skip to the answer", "跳到结论"),
    "dark": ("Dark", "深色"),
    "light": ("Light", "浅色"),
    "contents": ("Contents", "目录"),
    "scaled": ("Scaled down: {changes}.", "缩小规模运行：{changes}。"),
    "departed": ("Not as in the study's file: {changes}.", "与研究文件不同：{changes}。"),
    "answer": ("The answer", "结论"),
    "caveats": ("Before you read on", "阅读前请注意"),
    "num_runs": ("{n} runs", "{n} 次训练"),
    "num_arms": ("{n} arms", "{n} 个实验组"),
    "seeds": ("seeds {seeds}", "随机种子 {seeds}"),
    "protocol": ("protocol {name}", "评测协议 {name}"),
    "split_test": ("test split", "测试集"),
    "split_val": ("validation split", "验证集"),
    # The parts of the page.
    "pictures": ("Pictures", "图表"),
    "leaderboard": ("Leaderboard", "排行榜"),
    "differences": ("Differences", "差异"),
    "trials": ("Trials", "候选设置"),
    "teachers": ("Teachers", "教师网络"),
    "per_class": ("Classes", "各类别"),
    "confusions": ("Most frequent mistakes", "最常见的混淆"),
    "references": ("Numbers of others", "他人结果"),
    "provenance": ("Where the numbers come from", "数据来源"),
    "glossary": ("How it was computed", "计算方法"),
    # What stands below their titles.
    "note_leaderboard": (
        "Top-1 accuracy is the mean over seeds ± half its 95 % interval. "
        "The best is marked only where it is alone at rank 1. Ranks are corrected over all pairs of arms, "
        "so an arm can differ from the control and still share its rank.",
        "Top-1 准确率：各随机种子的均值 ± 95 % 置信区间的半宽。只有独占第 1 名时才标记为最佳。"
        "名次按所有两两比较校正，因此与对照组有差异的实验组仍可能与其名次相同。",
    ),
    "note_differences": (
        "A − B, paired by seed. The noise floor, {floor} points, is the spread of one run over seeds: two runs that "
        "differ in the seed alone differ by more than {twenty} points about once in twenty.",
        "A − B，按随机种子配对。噪声下限（{floor} 个百分点）为单次训练随随机种子变化的标准差："
        "仅随机种子不同的两次训练，约每二十次有一次相差超过 {twenty} 个百分点。",
    ),
    "note_differences_no_floor": ("A − B, paired by seed.", "A − B，按随机种子配对。"),
    "note_trials": (
        "What each arm tried. Validation chose, on average over the seeds; test was not asked.",
        "各实验组尝试过的设置。由验证集按各随机种子的均值选出，未使用测试集。",
    ),
    "note_teachers": (
        "A teacher is measured on the student's held-out images before the first step; where none are held out, on its "
        "training images. Agreement: the share of these "
        "images that student and teacher take for the same class. Share of the loss: of each term, in the first and in "
        "the last epoch. Means over seeds.",
        "教师网络在第一步训练之前先在学生的留出图像上评测；没有留出图像时用训练图像。一致率：学生与教师判为同一类别的图像比例。"
        "损失占比：各项在第一轮与最后一轮中的比例。均为各随机种子的均值。",
    ),
    "note_per_class": (
        "{arm} beside the control, {control}; means over seeds.",
        "{arm} 与对照组 {control} 对比；均为各随机种子的均值。",
    ),
    "note_per_class_control": ("{arm}, the control; means over seeds.", "对照组 {arm}；均为各随机种子的均值。"),
    "note_confusions": (
        "Of {arm}, summed over {n} seeds: which class is called what.",
        "{arm}，对 {n} 个随机种子求和：真实类别被误判为哪个类别。",
    ),
    "note_references": (
        "Reported elsewhere, under other conditions. They are beside ours for orientation and part of no test.",
        "在其他条件下由他人报告，仅供对照参考，不参与任何检验。",
    ),
    "no_javascript": (
        "The pictures need JavaScript. The PNG files beside this page show accuracy, differences and costs; "
        "the tables hold the final numbers.",
        "交互图表需要 JavaScript。本页旁的 PNG 文件展示准确率、差异与代价；最终数字见下方表格。",
    ),
    # Columns.
    "rank": ("Rank", "名次"),
    "arm": ("Arm", "实验组"),
    "balanced": ("Balanced accuracy", "平衡准确率"),
    "top1_test": ("Top-1 on test", "测试集 Top-1"),
    "top1_val": ("Top-1 on validation", "验证集 Top-1"),
    "n": ("Seeds", "种子数"),
    "sd": ("SD", "标准差"),
    "to_control": ("Difference to control", "与对照组之差"),
    "p_holm": ("p, Holm", "p 值（Holm 校正）"),
    "p": ("p", "p 值"),
    "better": ("Probability better", "更优概率"),
    "params": ("Parameters", "参数量"),
    "macs": ("MACs", "乘加运算"),
    "training_time": ("Training time", "训练时间"),
    "images_per_s": ("Images/s", "图像/秒"),
    "seeds_needed": ("Seeds to settle", "定论所需种子数"),
    "runs": ("Runs, by seed", "各种子的训练"),
    "pair": ("A − B", "A − B"),
    "difference": ("Difference", "差异"),
    "beyond_noise": ("Beyond noise", "超出噪声"),
    "teacher": ("Teacher", "教师"),
    "teacher_top1": ("Teacher's top-1", "教师 Top-1"),
    "teacher_entropy": ("Entropy of its targets", "软目标的熵"),
    "agreement": ("Agreement", "一致率"),
    "shares": ("Share of the loss", "损失占比"),
    "on_training_images": ("on training images", "在训练图像上"),
    "knows_seen": ("trained on {share} % of these images", "其中 {share} % 曾用于训练它"),
    "of_largest": ("of {largest}, T = {t:g}", "最大 {largest}，T = {t:g}"),
    "trial": ("Setting", "设置"),
    "val_top1": ("Validation top-1", "验证集 Top-1"),
    "chosen": ("Chosen", "选中"),
    "class": ("Class", "类别"),
    "images": ("Images", "图像数"),
    "recall": ("Recall", "召回率"),
    "control_recall": ("Control's recall", "对照组召回率"),
    "precision": ("Precision", "精确率"),
    "f1": ("F1", "F1"),
    "true_class": ("True class", "真实类别"),
    "called": ("Predicted", "预测为"),
    "count": ("Times", "次数"),
    "share": ("Of the class", "占该类比例"),
    "theirs": ("Theirs", "他人结果"),
    "ours": ("Ours", "本研究"),
    "source": ("Source", "来源"),
    "setting": ("Setting", "设置项"),
    "in_control": ("In the control", "对照组取值"),
    "here": ("Here", "此处取值"),
    "seed": ("Seed", "种子"),
    "run": ("Run", "训练"),
    "environment": ("Machine", "机器"),
    "status": ("Status", "状态"),
    "epochs": ("Epochs", "轮数"),
    "hardware": ("Hardware", "硬件"),
    "device": ("Device", "设备"),
    "precision_of_numbers": ("Numbers", "数值精度"),
    "threads": ("Threads", "线程数"),
    "compiled": ("Compiled", "已编译"),
    "num_of_runs": ("Runs", "训练次数"),
    "versions": ("Versions", "版本"),
    "commit": ("Commit", "提交"),
    "started": ("Started", "开始时间"),
    "command": ("Command", "命令"),
    "looked_at": ("Looked at", "读取时间"),
    # Units, and what stands in cells.
    "points": ("points", "百分点"),
    "millions": ("M", "百万"),
    "nats": ("nats", "奈特"),
    "control": ("control", "对照组"),
    "best": ("best", "最佳"),
    "also": ("also: {names}", "亦即：{names}"),
    "range": ("{low} to {high}", "{low} 至 {high}"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "finished": ("finished", "已完成"),
    "running": ("running", "进行中"),
    "interrupted": ("interrupted", "已中断"),
    "diverged": ("diverged", "已发散"),
    "num_diverged": ("{n} diverged", "{n} 次发散"),
    # Tables at hand.
    "filter": ("Filter", "筛选"),
    "none_found": ("No row has these words.", "没有符合条件的行。"),
    # Provenance.
    "base": ("The base recipe, which is the control", "基准配方（即对照组）"),
    "arms": ("What each arm changes", "各实验组的改动"),
    "every_run": ("Every run", "全部训练"),
    "environments": ("Machines and versions", "机器与版本"),
    "test_reads": ("Every look at the test split", "对测试集的每一次读取"),
    "no_test_reads": ("The test split was not read.", "尚未读取测试集。"),
    # Glossary: term and meaning.
    "term_interval": ("95 % interval", "95 % 置信区间"),
    "text_interval": (
        "Made like this again and again, 19 of 20 such intervals hold the true mean over seeds: Student's t over the "
        "runs' accuracies. One seed has none. It speaks of seeds, not of other images.",
        "若反复以同样方式求区间，20 个中有 19 个包含对所有随机种子的真实均值：对各次训练的准确率用学生 t 分布计算。"
        "单个种子没有区间。"
        "它反映的是随机种子的影响，而非换一批图像的影响。",
    ),
    "term_difference": ("Paired difference", "配对差异"),
    "text_difference": (
        "Runs of one seed are compared with each other, and only seeds that both arms have: what a seed does to both "
        "falls out. p is of the two-sided paired t test.",
        "只比较随机种子相同的训练，且只用双方都有的种子：种子对双方的共同影响因此抵消。p 值来自双侧配对 t 检验。",
    ),
    "term_holm": ("p, Holm", "Holm 校正"),
    "text_holm": (
        "p corrected for the number of comparisons (Holm 1979): among arms that do nothing, the chance to call any of "
        "them different stays at 5 %. Below 0.05 a difference is beyond noise.",
        "按比较次数校正的 p 值（Holm 1979）：若所有实验组其实都没有作用，误判其中任何一个有差异的概率仍不超过 5 %。"
        "低于 0.05 即视为超出噪声。",
    ),
    "term_rank": ("Rank", "名次"),
    "text_rank": (
        "1 plus the number of arms that are separably better, corrected for all pairs. Arms that cannot be told apart "
        "share a rank; fewer than {fewest} seeds give none.",
        "1 加上可确认更优的实验组数目，按所有两两比较校正。无法区分的实验组名次相同；少于 {fewest} 个种子则不排名。",
    ),
    "term_better": ("Probability better", "更优概率"),
    "text_better": (
        "How often a run of the arm scores above a run of the control, over all pairs of runs; 50 % is a toss-up "
        "(Agarwal et al. 2021).",
        "在所有成对的训练中，该实验组得分高于对照组的比例；50 % 相当于抛硬币（Agarwal 等，2021）。",
    ),
    "term_floor": ("Noise floor", "噪声下限"),
    "text_floor": (
        "The standard deviation of a run's accuracy over seeds, pooled over all arms; here {sd} points "
        "({low} to {high}).",
        "准确率随随机种子变化的标准差，由所有实验组合并估计；此处为 {sd} 个百分点（{low} 至 {high}）。",
    ),
    "term_seeds": ("Seeds to settle", "定论所需种子数"),
    "text_seeds": (
        "How many seeds each arm needs to tell a difference of the size that was seen from none, four times in five, "
        "after correction.",
        "若真实差异等于观测值，要以 80 % 的把握（校正后）将其与零区分开，每个实验组所需的随机种子数。",
    ),
    "term_macs": ("Parameters and MACs", "参数量与乘加运算"),
    "text_macs": (
        "Counted for one image of the data set. A MAC is one multiplication with its addition; FLOPs are twice that.",
        "按数据集中的一张图像计算。一次乘加（MAC）为一次乘法加一次加法；FLOPs 为其两倍。",
    ),
    "term_time": ("Training time, images per second", "训练时间与吞吐量"),
    "text_time": (
        "Medians over the arm's runs, evaluation not counted. They compare only where the hardware is the same.",
        "该实验组各次训练的中位数，不含评估时间。只有在硬件相同时才可比较。",
    ),
    **words_of_pictures.TEXTS,
}


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one language.

    Args:
        language: "en" or "zh", as in `<html lang>`.
    """

    language: str

    def __call__(self, key: str, **fields: object) -> str:
        """Return the text of a key, with its `{fields}` filled in."""
        text = TEXTS[key][LANGUAGES.index(self.language)]
        return text.format(**fields) if fields else text


def in_language(language: str) -> Words:
    """Return the words of a language.

    Raises:
        RecipeError: there is no such language.
    """
    if language not in LANGUAGES:
        raise RecipeError("--lang", found=f"'{language}'", expected=f"one of {', '.join(LANGUAGES)}")
    return Words(language)
