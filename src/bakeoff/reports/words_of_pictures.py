"""The words of the interactive pictures in English and in Chinese: titles, notes, alternative texts, axes."""

from collections.abc import Mapping

TEXTS: Mapping[str, tuple[str, str]] = {
    "predictions_left_out": (
        "Left out, since their predictions are missing or cannot be read: {runs}.",
        "因预测结果缺失或无法读取而未计入：{runs}。",
    ),
    "runs_diverged": ("Runs that diverged are not shown: {runs}.", "未显示已发散的训练：{runs}。"),
    # What a reader can do on a screen.
    "hint_curves": (
        "Choose a quantity above; press an arm's name to hide it.",
        "可在上方选择指标；点击实验组名称可隐藏或显示。",
    ),
    "hint_cost": ("Choose a cost above.", "可在上方选择代价。"),
    "hint_confusion": ("Drag to zoom in.", "拖动可放大。"),
    # Quantities, on axes and in labels.
    "test_accuracy": ("Top-1 accuracy on test", "测试集 Top-1 准确率"),
    "val_accuracy": ("Top-1 accuracy on validation", "验证集 Top-1 准确率"),
    "axis_starts": ("(axis starts at {start})", "（坐标轴自 {start} 起）"),
    "axis_points": ("Difference, points", "差异，百分点"),
    "epoch": ("Epoch", "轮次"),
    "confidence": ("Confidence, %", "置信度，%"),
    "accuracy_of_bin": ("Accuracy, %", "准确率，%"),
    "images_of_bin": ("Images, %", "图像占比，%"),
    "ece": ("ECE", "ECE"),
    "classes": ("classes", "类别"),
    "superclasses": ("superclasses", "超类"),
    "curve_val_top1": ("Validation accuracy", "验证集准确率"),
    "curve_val_loss": ("Validation loss", "验证集损失"),
    "curve_train_loss": ("Training loss", "训练损失"),
    "curve_lr": ("Learning rate", "学习率"),
    "curve_agreement": ("Agreement with the teacher", "与教师的一致率"),
    "curve_label_share": ("Share of the loss due to the labels", "标签项的损失占比"),
    "cost_params": ("Parameters, millions", "参数量，百万"),
    "cost_macs": ("Multiply-adds, millions", "乘加运算，百万次"),
    "cost_training": ("Training time, minutes", "训练时间，分钟"),
    # Accuracy.
    "picture_accuracy": ("Accuracy of every arm", "各实验组的准确率"),
    "picture_accuracy_note": (
        "Small points are runs, one a seed; the large point is their mean, with its 95 % interval. "
        "The control is grey.",
        "小点为各次训练（每个随机种子一次）；大点为均值，附 95 % 置信区间。灰色为对照组。",
    ),
    "picture_accuracy_others": (
        "Hollow diamonds are numbers of others, made under other conditions.",
        "空心菱形为他人在其他条件下得到的结果。",
    ),
    "picture_accuracy_outside": (
        "{n} numbers of others lie far outside; a table below has all of them.",
        "另有 {n} 个他人结果远在图外，全部列于下方表格。",
    ),
    "picture_accuracy_alt": (
        "{quantity} of {count} arms, in per cent. Highest mean: {best}, {high}. Lowest: {worst}, {low}.",
        "{count} 个实验组的{quantity}（%）。均值最高：{best}，{high}；最低：{worst}，{low}。",
    ),
    # Differences.
    "picture_difference": ("Difference to the control, {control}", "与对照组 {control} 之差"),
    "picture_difference_note": (
        "Paired by seed: each arm less {control}, with its 95 % interval. "
        "Solid marks are beyond noise after correction, hollow ones are not.",
        "按随机种子配对：各实验组减去 {control}，附 95 % 置信区间。实心标记表示校正后超出噪声，空心表示未超出。",
    ),
    "picture_difference_floor": (
        "Grey band, ± {noise} points: one standard deviation of the difference of two runs that differ in the seed "
        "alone (√2 times the noise floor of {spread} points, {df} degrees of freedom); about once in twenty it is "
        "beyond ± {twenty}.",
        "灰色带（± {noise} 个百分点）：仅随机种子不同的两次训练之差的一个标准差"
        "（噪声下限 {spread} 个百分点的 √2 倍，自由度 {df}）；约每二十次有一次超出 ± {twenty}。",
    ),
    "picture_difference_alt": (
        "Differences to {control} in points, with 95 % intervals: {listed}.",
        "与 {control} 之差（百分点），附 95 % 置信区间：{listed}。",
    ),
    # Curves.
    "picture_curves": ("Training, epoch by epoch", "训练过程"),
    "picture_curves_runs": (
        "Strong lines are means over seeds, thin ones single runs.",
        "粗线为各随机种子的均值，细线为单次训练。",
    ),
    "picture_curves_band": (
        "Lines are means over seeds, bands reach from the lowest to the highest of them; {runs} runs in all.",
        "线为各随机种子的均值，色带为其最低到最高值；共 {runs} 次训练。",
    ),
    "picture_curves_hidden": ("{shown} arms are switched on at first.", "初始只显示其中 {shown} 个实验组。"),
    "picture_curves_alt": (
        "{quantities} by epoch, of {runs} runs of {arms} arms.",
        "{arms} 个实验组共 {runs} 次训练的{quantities}随轮次的变化。",
    ),
    # Costs.
    "picture_cost": ("Accuracy against its cost", "准确率与代价"),
    "picture_cost_note": (
        "The line joins the arms that no other beats in both.",
        "连线为帕累托前沿：没有其他实验组在准确率和代价两方面都更优。",
    ),
    "picture_cost_alt": (
        "{quantity} against {cost}. No other arm is both better and cheaper than: {unbeaten}.",
        "{quantity}与{cost}的关系。没有其他实验组同时更优且更省的是：{unbeaten}。",
    ),
    # Settings.
    "picture_setting": ("Accuracy by {setting}", "{setting} 对准确率的影响"),
    "picture_setting_note": (
        "Small points are runs, one a seed; the line joins their means, with 95 % intervals.",
        "小点为各次训练（每个随机种子一次）；连线经过均值，附 95 % 置信区间。",
    ),
    "picture_setting_alt": (
        "{quantity} for {setting} from {low} to {high}. Highest mean at {best}: {top1}.",
        "{setting} 从 {low} 到 {high} 时的{quantity}。均值在 {best} 处最高：{top1}。",
    ),
    "picture_trials": ("What each arm tried", "各实验组尝试的设置"),
    "picture_trials_note": (
        "Validation accuracy of each setting: small points are seeds, the large one their mean. "
        "Solid is what was chosen.",
        "各设置的验证集准确率：小点为各随机种子，大点为其均值。实心表示被选中。",
    ),
    "picture_trials_alt": (
        "Validation accuracy of the settings that {arms} arms tried. Chosen: {chosen}.",
        "{arms} 个实验组所尝试设置的验证集准确率。选中：{chosen}。",
    ),
    # Images.
    "picture_confusion": ("Confusion matrix", "混淆矩阵"),
    "picture_confusion_note": (
        "{arm}, summed over {runs} runs. A row is a true class; colour is the share of its images, "
        "on a scale of square roots that shows one mistake in a hundred. Most frequent: {mistakes}.",
        "{arm}，对 {runs} 次训练求和。每行为一个真实类别；颜色表示该类图像的占比，采用平方根刻度，"
        "百分之一的误判也能看见。最常见：{mistakes}。",
    ),
    "picture_confusion_alt": (
        "Confusion matrix of {arm}, {classes} classes. Most frequent mistakes: {mistakes}.",
        "{arm} 的混淆矩阵，共 {classes} 个类别。最常见的混淆：{mistakes}。",
    ),
    "mistake": ("{true} called {called} ({share} %)", "{true} 被误判为 {called}（{share} %）"),
    "no_mistakes": ("none", "无"),
    "picture_reliability": ("Reliability diagram", "可靠性图"),
    "picture_reliability_note": (
        "On the dotted line, confidence is as high as accuracy; below it the network is too sure of itself. "
        "ECE is the mean distance from it, weighted by images, which are counted below.",
        "虚线上置信度等于准确率；低于虚线表示网络过于自信。ECE 为到虚线的平均距离，按图像数加权；"
        "下方为各区间的图像占比。",
    ),
    "picture_reliability_alt": (
        "Accuracy against confidence in 15 bins. Expected calibration error: {errors}.",
        "按置信度分为 15 个区间的准确率。期望校准误差：{errors}。",
    ),
    "picture_recall": ("Recall by class: {best} and {control}", "各类别召回率：{best} 与 {control}"),
    "picture_recall_note": (
        "Sorted by difference. By chance of its images alone, about one class in twenty would differ by more than "
        "{noise} points; {beyond} of {classes} classes do.",
        "按差异排序。仅因图像抽样的偶然性，约每二十个类别就有一个相差超过 {noise} 个百分点；"
        "{classes} 个类别中有 {beyond} 个如此。",
    ),
    "picture_recall_cut": (
        "Shown are the {shown} of {classes} classes with the greatest gains and losses.",
        "仅显示 {classes} 个类别中增减最大的 {shown} 个。",
    ),
    "picture_recall_alt": (
        "Recall by class of {best} beside {control}. Greatest gain: {up}, {gain} points; "
        "greatest loss: {down}, {loss}.",
        "{best} 与 {control} 的各类别召回率。提升最大：{up}，{gain} 个百分点；下降最大：{down}，{loss}。",
    ),
}
